"""Notifications: what is news, names that are hostile, and a process that waits for them."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from fakeproc import FakeProc
from oomguard.core.process import Process
from oomguard.exporter import notices as notices_module
from oomguard.exporter.notices import Notice, Notifier, notices, watch_status
from oomguard.kernel.procfs import Procfs
from oomguard.report.status_file import KILLS_A_UID, LastKill, PressureStatus, StatusFile, encode_status
from running import wait_until
from statuses import IDLE

SHORT = PressureStatus(
    short=True, episodes=0, seconds=0.0, next_rule="", next_process="chrome[12]", available_kib=217_088
)
MINE = LastKill(100.0, 7, "chrome", 1000, 2_097_152, "")


def with_kills(*kills: LastKill) -> StatusFile:
    """Return the status of a daemon that has seen these."""
    return IDLE._replace(last_kills=kills)


def test_memory_that_runs_out_is_told_once() -> None:
    """Also if it was short before anybody looked."""
    short = IDLE._replace(pressure=SHORT)
    for before in (None, IDLE):
        [notice] = notices(before, short, uid=1000, since=50.0)
        assert notice.title == "Memory is running out"
        assert notice.text == "212.0 MiB available. The kernel would kill chrome[12] next."
        assert notice.fields == {"EVENT": "memory-short", "AVAILABLE_KIB": "217088", "NEXT": "chrome[12]"}
    assert list(notices(short, short, uid=1000, since=50.0)) == []
    assert list(notices(short, IDLE, uid=1000, since=50.0)) == []


def test_a_user_hears_of_the_own_programs_that_died_since() -> None:
    """Those of others only if asked for, and none from before."""
    theirs = MINE._replace(pid=8, uid=1001, comm="vim")
    assert list(notices(None, with_kills(MINE), uid=1000, since=101.0)) == []
    assert len(list(notices(None, with_kills(MINE), uid=1000, since=99.0))) == 1
    assert list(notices(with_kills(MINE), with_kills(MINE, theirs), uid=1000, since=50.0)) == []
    again = MINE._replace(pid=9, at=3.0)
    assert len(list(notices(with_kills(MINE), with_kills(MINE, again), uid=1000, since=50.0))) == 1, (
        "clock set"
    )
    [notice] = notices(IDLE, with_kills(MINE, theirs), uid=1000, since=50.0)
    assert (notice.title, notice.text) == (
        "chrome was killed",
        "Out of memory: the kernel killed chrome[7] (2.0 GiB).",
    )


def test_of_several_kills_the_largest_is_named_first() -> None:
    """Also in the title, and in the fields for a command."""
    kills = [MINE._replace(pid=pid, uid=pid, rss_kib=1024 * kib) for pid, kib in enumerate((1, 5, 4, 3, 9))]
    [notice] = notices(IDLE, with_kills(*kills), uid=None, since=50.0)
    assert notice.title == "chrome and 4 more were killed"
    assert notice.text == (
        "Out of memory: the kernel killed chrome[4] (9.0 MiB), chrome[1] (5.0 MiB), chrome[2] (4.0 MiB) "
        "and 2 more."
    )
    assert (notice.fields["PID"], notice.fields["COUNT"]) == ("4", "5")


def test_a_storm_of_kills_has_a_number_that_is_a_minimum() -> None:
    """The daemon keeps the last three of a user."""
    kills = [MINE._replace(pid=pid) for pid in range(KILLS_A_UID)]
    [notice] = notices(IDLE, with_kills(*kills), uid=1000, since=50.0)
    assert notice.title == "chrome and at least 2 more were killed"
    assert notice.text.startswith("Out of memory: the kernel killed at least chrome[0] (2.0 GiB), ")


@pytest.fixture
def sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put programs on the PATH that write down what they are called with; return the file."""
    for name in ("notify-send", "gdbus"):
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\nprintf '%s\\0' {name} \"$@\" >{tmp_path}/sent\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}")
    return tmp_path / "sent"


@pytest.mark.parametrize(
    ("text", "body"),
    [
        ("--help", "--help"),
        ("<b>&", "&lt;b&gt;&amp;"),
        (r"\074b\076", r"\\074b\\076"),
        ('"; $(x)', '"; $(x)'),
    ],
)
def test_a_name_is_only_text(sent: Path, text: str, body: str) -> None:
    """No option, no markup, none after backslashes are resolved, and no command."""
    Notifier(None).send(Notice("T", text, {}))
    words = sent.read_bytes().decode().split("\0")
    assert words[words.index("--") + 1 :] == ["T", body, ""]


def test_a_command_has_the_fields_in_its_environment(tmp_path: Path) -> None:
    """As they are."""
    out = tmp_path / "out"
    notifier = Notifier(f'printf "%s|%s" "$OOMGUARD_COMM" "$OOMGUARD_TEXT" >{out}')
    evil = f"$(touch {tmp_path}/evil)`id`"
    notifier.send(Notice("T", "<text>", {"COMM": evil}))
    assert out.read_text() == f"{evil}|<text>"
    assert not (tmp_path / "evil").exists()


def test_a_name_that_the_locale_cannot_write_is_escaped(tmp_path: Path) -> None:
    """Python takes arguments and the environment of a program only in the locale's encoding."""
    program = """if True:
        from oomguard.exporter.notices import Notice, Notifier
        command = 'printf %s:%s "$OOMGUARD_TEXT" "$OOMGUARD_COMM" >&2'
        Notifier(command).send(Notice("T", chr(0x3A8), {"COMM": chr(0xFC)}))
    """
    environment = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    run = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | environment, capture_output=True, check=True
    )
    assert run.stderr == rb"\u03a8:\xfc"


@pytest.mark.parametrize(
    ("command", "how"),
    [("exit 3", "ended with exit status 3"), ("kill -11 $$", "was killed by signal 11")],
)
def test_a_command_that_fails_is_reported_once(
    capfd: pytest.CaptureFixture[str], command: str, how: str
) -> None:
    """How it ended, and what happens next, below what it prints itself."""
    failing = Notifier(f"echo no >&2; {command}")
    for _ in range(2):
        failing.send(Notice("T", "x", {}))
    assert capfd.readouterr().err == (
        f"no\noomguard: a notification failed: `echo no >&2; {command}` {how}; "
        "notify goes on, and reports the same failure only once\nno\n"
    )


def test_a_program_that_is_not_there_is_a_failed_notification(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither notify-send nor gdbus."""
    monkeypatch.setenv("PATH", "/nonexistent")
    Notifier(None).send(Notice("T", "x", {}))
    assert "`gdbus` cannot be started: No such file or directory; " in capfd.readouterr().err


def test_a_command_that_goes_on_is_killed_with_what_it_started(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or each notification would leave one."""
    monkeypatch.setattr("oomguard.exporter.notices._SECONDS", 0.5)
    Notifier(f"sleep 300 & echo $! >{tmp_path}/pid; wait").send(Notice("T", "x", {}))
    assert "was killed after 0.5 s" in capfd.readouterr().err
    state = Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}/stat")
    wait_until(lambda: not state.exists() or ") Z " in state.read_text(), "its end")


@pytest.mark.filterwarnings("ignore:subprocess:ResourceWarning")
def test_a_command_that_became_another_users_is_left_alone(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `sudo` does."""
    monkeypatch.setattr("oomguard.exporter.notices._SECONDS", 0.1)

    def refuse(pid: int, number: int) -> None:
        os.kill(pid, number)
        raise PermissionError

    monkeypatch.setattr("oomguard.exporter.notices.os.killpg", refuse)
    Notifier("exec sleep 300").send(Notice("T", "x", {}))
    assert "still runs after 0.1 s, as another user; notify goes on" in capfd.readouterr().err


BUS = [shutil.which(name) for name in ("dbus-run-session", "gdbus", "dbus-monitor")]


_BUS_WITHOUT_SERVICES = """\
<busconfig>
  <type>session</type>
  <listen>unix:tmpdir=/tmp</listen>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
  </policy>
</busconfig>
"""
"""Else the bus starts the notification daemon of the desktop that this may be."""


@pytest.mark.skipif(None in BUS, reason="needs dbus-run-session, dbus-monitor and gdbus")
def test_gdbus_takes_any_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a real bus, where nobody shows it: what arrives is what was sent."""
    (tmp_path / "gdbus").symlink_to(str(BUS[1]))
    text = "a'b\"c\\x1b\\\\ \\074 é \U0001f4a5 --help"
    code = (
        "import os, sys; from oomguard.exporter.notices import Notice, Notifier; "
        f"os.environ['PATH'] = {str(tmp_path)!r}; Notifier(None).send(Notice('T', {text!r}, {{}}))"
    )
    script = (
        f'"$0" "interface=org.freedesktop.Notifications" >{tmp_path}/seen & '
        f'until grep -q NameLost {tmp_path}/seen; do sleep 0.05; done; "$1" -c "$2"; '
        f"until grep -q urgency {tmp_path}/seen; do sleep 0.05; done; kill $!"
    )
    (tmp_path / "bus.conf").write_text(_BUS_WITHOUT_SERVICES)
    bus = [str(BUS[0]), f"--config-file={tmp_path}/bus.conf"]
    command = [*bus, "--", "sh", "-c", script, str(BUS[2]), sys.executable, code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "ServiceUnknown" in done.stderr
    assert f'string "{text}"\n' in (tmp_path / "seen").read_text()


def test_without_an_instance_of_inotify_it_looks_again_and_again(
    proc: FakeProc, procfs: Procfs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user has 128, of which a desktop may use all."""

    class ToldError(Exception):
        pass

    class Told(Notifier):
        def send(self, notice: Notice) -> None:
            raise ToldError(notice.title)

    def no_instance() -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(notices_module, "Inotify", no_instance)
    monkeypatch.setattr(notices_module, "_ABSENT_SECONDS", 0.01)
    proc.process(Process(IDLE.identity, b"python3"))
    new = with_kills(MINE._replace(at=time.time() + 60))._replace(written_monotonic=time.monotonic())
    (tmp_path / "new").write_bytes(encode_status(new))
    appears = threading.Timer(0.1, (tmp_path / "new").replace, [tmp_path / "status.json"])
    appears.start()
    with pytest.raises(ToldError, match="chrome was killed"):
        watch_status(str(tmp_path), procfs, Told(None), uid=None)
    appears.join()


def test_it_waits_for_news_and_tells_them(tmp_path: Path) -> None:
    """As soon as the daemon replaces its file. That it waits for one, and that one came, it says once."""
    state, told = tmp_path / "state", tmp_path / "told"
    state.mkdir()
    recent = MINE._replace(at=time.time() + 60)
    identity = Procfs("/proc").identity(os.getpid())
    assert identity is not None

    def write(status: StatusFile) -> None:
        now = status._replace(
            pid=identity.pid,
            start_time_ticks=identity.start_time_ticks,
            written_monotonic=time.monotonic(),
        )
        (state / "new").write_bytes(encode_status(now))
        (state / "new").replace(state / "status.json")

    command = [sys.executable, "-m", "oomguard", "notify", "--all", f"--state-dir={state}"]
    command.append(f'--command=echo "$OOMGUARD_EVENT $OOMGUARD_PID" >>{told}')
    with open(tmp_path / "errors", "w") as errors, subprocess.Popen(command, stderr=errors) as process:
        try:
            said = tmp_path / "errors"
            wait_until(lambda: said.read_text().endswith("; notify waits for it\n"), "that it waits")
            write(with_kills(MINE))
            wait_until(
                lambda: said.read_text().endswith(" is up to date: oomguard is running\n"), "that it goes on"
            )
            syscall = Path(f"/proc/{process.pid}/wchan")
            wait_until(lambda: "select" in syscall.read_text() or "poll" in syscall.read_text(), "waiting")
            write(with_kills(MINE, recent._replace(pid=9)))
            wait_until(lambda: told.exists() and told.read_text() != "", "a notice")
            assert told.read_text() == "killed 9\n"
            assert len(said.read_text().splitlines()) == 2
        finally:
            process.send_signal(signal.SIGTERM)
    assert process.returncode == -signal.SIGTERM
