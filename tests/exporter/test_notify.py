"""Notifications: what is news, names that are hostile, and a process that waits for them."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from oomguard.exporter.notices import Notice, Notifier, notices
from oomguard.kernel.procfs import Procfs
from oomguard.report.status_file import LastKill, PressureStatus, StatusFile, encode_status
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
        "Out of memory: 1 program killed",
        "The kernel killed chrome[7] (2.0 GiB).",
    )
    [notice] = notices(IDLE, with_kills(*(MINE._replace(pid=pid) for pid in range(5))), uid=None, since=50.0)
    assert notice.title == "Out of memory: 5 programs killed"
    assert notice.text.endswith("chrome[4] (2.0 GiB) and 2 more.")
    assert (notice.fields["PID"], notice.fields["COUNT"]) == ("4", "5")


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


def test_a_command_has_the_fields_in_its_environment(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """As they are. A command that fails is reported once."""
    out = tmp_path / "out"
    notifier = Notifier(f'printf "%s|%s" "$OOMGUARD_COMM" "$OOMGUARD_TEXT" >{out}')
    evil = f"$(touch {tmp_path}/evil)`id`"
    notifier.send(Notice("T", "<text>", {"COMM": evil}))
    assert out.read_text() == f"{evil}|<text>"
    assert not (tmp_path / "evil").exists()
    failing = Notifier("echo no >&2; exit 3")
    for _ in range(2):
        failing.send(Notice("T", "x", {}))
    assert capfd.readouterr().err == "oomguard: a notification failed: 'no'\n"


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


def test_it_waits_for_news_and_tells_them(tmp_path: Path) -> None:
    """As soon as the daemon replaces its file."""
    state, told = tmp_path / "state", tmp_path / "told"
    state.mkdir()
    recent = MINE._replace(at=time.time() + 60)
    identity = Procfs("/proc").identity(os.getpid())
    assert identity is not None

    def write(status: StatusFile) -> None:
        now = status._replace(
            pid=identity.pid, start_time_ticks=identity.start_time_ticks, written_at=time.time()
        )
        (state / "new").write_bytes(encode_status(now))
        (state / "new").replace(state / "status.json")

    write(with_kills(MINE))
    command = [sys.executable, "-m", "oomguard", "notify", "--all", f"--state-dir={state}"]
    command.append(f'--command=echo "$OOMGUARD_EVENT $OOMGUARD_PID" >>{told}')
    with subprocess.Popen(command) as process:
        try:
            syscall = Path(f"/proc/{process.pid}/wchan")
            wait_until(lambda: "select" in syscall.read_text() or "poll" in syscall.read_text(), "waiting")
            write(with_kills(MINE, recent._replace(pid=9)))
            wait_until(lambda: told.exists() and told.read_text() != "", "a notice")
            assert told.read_text() == "killed 9\n"
        finally:
            process.send_signal(signal.SIGTERM)
    assert process.returncode == -signal.SIGTERM
