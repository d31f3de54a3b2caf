"""A real exporter beside a real daemon, on the real kernel."""

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus import PROMTOOL, needs_promtool
from scraping import OPENMETRICS, Exporter, exporting, parse

from fakeproc import FakeProc
from oomguard import __version__
from oomguard.__main__ import main
from oomguard.core.process import Process
from oomguard.exporter.metrics import host_metrics
from oomguard.exporter.status_source import StatusSource
from oomguard.kernel.procfs import Procfs
from oomguard.report.status_file import SysctlStatus, encode_status
from running import Program, as_user, running, wait_for_value, wait_until, write_oom_score_adj
from statuses import IDLE

SWAPPINESS = Path("/proc/sys/vm/swappiness")

POLICY = """
vm:
  swappiness: {swappiness}
rules:
  - name: oomguard-scrape
    oom_score_adj: 300
  - name: [oomguard-other]
    oom_score_adj: {{at_least: 200}}
resync_interval: 3600
"""


@pytest.fixture
def policy() -> str:
    """Return a policy that leaves the host's swappiness as it is."""
    return POLICY.format(swappiness=SWAPPINESS.read_text().strip())


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    """Return a program that the first rule holds."""
    made = Program(tmp_path, "oomguard-scrape")
    yield made
    made.end()


@pytest.fixture
def lonely(tmp_path: Path) -> Iterator[Exporter]:
    """Run an exporter where there is no daemon."""
    with exporting(tmp_path, tmp_path / "state") as exporter:
        yield exporter


def kib(key: str) -> int:
    """Return a line of the host's meminfo."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


def test_what_is_scraped_is_so(tmp_path: Path, policy: str, program: Program) -> None:
    """Policy, sysctls, processes by rule, adjustments, drift, and the host's memory."""
    before = time.time()
    pid = program.start()
    with running(tmp_path, policy) as daemon, exporting(tmp_path, daemon.state) as exporter:
        wait_for_value(pid, 300)
        wait_until(lambda: exporter.scrape()["oomguard_watched_values",] == 2, "a watch on both values")
        write_oom_score_adj(pid, 500)
        wait_until(lambda: exporter.scrape()["oomguard_drift_total", "oom_score_adj"] == 1, "drift")
        found = exporter.scrape()
        digest = json.loads((daemon.state / "status.json").read_text())["policy"]["digest"]
        swappiness = float(SWAPPINESS.read_text())
        assert found["oomguard_up",] == 1
        assert found["oomguard_build_info", __version__] == 1
        assert found["oomguard_policy_info", digest] == 1
        assert digest == policy_digest(daemon.policy)
        assert before <= found["oomguard_start_time_seconds",] <= time.time()
        assert before <= found["oomguard_policy_loaded_timestamp_seconds",] <= time.time()
        assert before <= found["oomguard_status_written_timestamp_seconds",] <= time.time()
        assert found["oomguard_resync_interval_seconds",] == 3600
        assert (found["oomguard_policy_rules",], found["oomguard_policy_rejected",]) == (2, 0)
        assert found["oomguard_sysctl_desired", "vm.swappiness"] == swappiness
        assert found["oomguard_sysctl_actual", "vm.swappiness"] == swappiness
        assert found["oomguard_sysctl_actual", "vm.overcommit_memory"] == float(
            Path("/proc/sys/vm/overcommit_memory").read_text()
        )
        assert found["oomguard_rule_processes", "name=oomguard-scrape", "300"] == 1
        assert found["oomguard_held_processes",] == 1
        assert found["oomguard_adjustments_total", "start", "oom_score_adj"] == 1
        assert found["oomguard_adjustments_total", "drift", "oom_score_adj"] == 1
        assert found["oomguard_watched_values",] == 2
        assert found["oomguard_drift_total", "vm.swappiness"] == 0
        assert found["oomguard_change_failures_total", "denied", "oom_score_adj"] == 0
        assert found["oomguard_passes_total",] >= 1
        assert found["oomguard_memory_total_bytes",] == kib("MemTotal") * 1024
        assert found["oomguard_memory_commit_limit_bytes",] == kib("CommitLimit") * 1024
        assert found["oomguard_memory_committed_bytes",] == pytest.approx(kib("Committed_AS") * 1024, rel=0.5)
        kills = next(
            int(line.split()[1])
            for line in Path("/proc/vmstat").read_text().splitlines()
            if line.startswith("oom_kill ")
        )
        assert 0 <= kills - found["oomguard_kernel_oom_kills_total",] < 100


def policy_digest(path: Path) -> str:
    """Return what docs/json.md says the digest of a policy of one file is."""
    total = hashlib.sha256()
    for part in (os.fsencode(path), path.read_bytes()):
        total.update(len(part).to_bytes(8, "big") + part)
    return total.hexdigest()


def test_a_daemon_that_is_killed_is_down_at_once_and_one_that_comes_back_is_up(
    tmp_path: Path, policy: str
) -> None:
    """Its status file is still there: what it says is not repeated. And each of the two is said once."""
    with running(tmp_path, policy) as daemon, exporting(tmp_path, daemon.state) as exporter:
        assert exporter.scrape()["oomguard_up",] == 1
        daemon.stop(signal.SIGKILL)
        for _ in range(3):
            found = exporter.scrape()
            assert found["oomguard_up",] == 0
        assert (daemon.state / "status.json").exists()
        assert not any(key[0].startswith(("oomguard_policy", "oomguard_rule")) for key in found)
        assert found["oomguard_memory_total_bytes",] > 0
        daemon.start()
        wait_until(lambda: exporter.scrape()["oomguard_up",] == 1, "up")
        said = exporter.log.read_text()
        assert said.count("is not running") == 1
        assert said.count("is up to date: oomguard is running") == 1


def test_a_daemon_that_nobody_reaped_is_down(proc: FakeProc, procfs: Procfs, tmp_path: Path) -> None:
    """Also for an exporter that did not see it running."""
    (tmp_path / "status.json").write_bytes(encode_status(IDLE))
    for state, why in (("S", ""), ("Z", "pid 10 is not running")):
        proc.process(Process(IDLE.identity, b"python3"), state=state)
        _, trouble = StatusSource(str(tmp_path), procfs).read(0.0)
        assert trouble.endswith(why)
        assert bool(trouble) is bool(why)


def test_a_pid_that_nobody_has_is_down(proc: FakeProc, procfs: Procfs, tmp_path: Path) -> None:
    """Also for an exporter that did not see it running, if it sees the pids of the host."""
    ended = subprocess.Popen(["true"])
    ended.wait()
    (proc.root / "self/ns").mkdir(parents=True)
    for pid, namespace, why in (
        (ended.pid, "pid:[4026531836]", f"pid {ended.pid} is not running"),
        (os.getpid(), "pid:[4026531836]", ""),  # hidden, perhaps
        (ended.pid, "pid:[4026532000]", ""),
    ):
        (proc.root / "self/ns/pid").symlink_to(namespace)
        (tmp_path / "status.json").write_bytes(encode_status(IDLE._replace(pid=pid)))
        _, trouble = StatusSource(str(tmp_path), procfs).read(0.0)
        (proc.root / "self/ns/pid").unlink()
        assert trouble.endswith(why)
        assert bool(trouble) is bool(why)


def test_a_clock_that_is_set_says_nothing_of_a_daemon(proc: FakeProc, procfs: Procfs, tmp_path: Path) -> None:
    """Nor does a suspend, in which the clock goes on. Whether /proc shows the daemon or not."""
    source = StatusSource(str(tmp_path), procfs)
    now = time.monotonic()
    for is_seen in (False, True):
        if is_seen:
            proc.process(Process(IDLE.identity, b"python3"))
        for written_at in (time.time() - 86400, time.time() + 86400):
            status = IDLE._replace(written_at=written_at, written_monotonic=now)
            (tmp_path / "status.json").write_bytes(encode_status(status))
            assert source.read(now + 100)[1] == ""
            assert "hangs or is not running" in source.read(now + 151)[1]


def test_a_rejected_policy_is_told(tmp_path: Path, policy: str) -> None:
    """While the one before stays in force, under its own digest."""
    with running(tmp_path, policy) as daemon, exporting(tmp_path, daemon.state) as exporter:
        before = {key for key in exporter.scrape() if key[0] == "oomguard_policy_info"}
        daemon.policy.write_text("vm: nonsense\n")
        wait_until(lambda: exporter.scrape()["oomguard_policy_rejected",] == 1, "a rejection")
        assert {key for key in exporter.scrape() if key[0] == "oomguard_policy_info"} == before


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "no such file"),
        (b"", "no valid JSON"),
        (b'{"format": 1', "no valid JSON"),
        (b'{"format": 99}', "format 99"),
        (b'{"format": 1}', "is missing"),
        (b"[" * 100_000, "no valid JSON"),
        (b"\xff\xfe", "no valid JSON"),
    ],
)
def test_without_a_status_file_to_read_it_goes_on(
    lonely: Exporter, tmp_path: Path, content: bytes | None, said: str
) -> None:
    """The host's side is there, and the reason stands in the log, once."""
    state = tmp_path / "state"
    if content is not None:
        state.mkdir()
        (state / "status.json").write_bytes(content)
    for _ in range(2):
        found = lonely.scrape()
        assert found["oomguard_up",] == 0
        assert found["oomguard_memory_total_bytes",] > 0
    assert lonely.log.read_text().count("status.json") == 1
    assert said in lonely.log.read_text()


def test_a_query_leaves_nothing_out(lonely: Exporter) -> None:
    """The client library has a filter for names that it knows before a scrape: here, none."""
    assert parse(lonely.get("/metrics?name[]=oomguard_up")).keys() == lonely.scrape().keys()


def test_figures_of_the_host_that_cannot_be_read_are_left_out(proc: FakeProc, procfs: Procfs) -> None:
    """In a container, lxcfs may have ended: here, each is a directory, which can be opened."""
    proc.sysctl("vm.swappiness", 60)
    (proc.root / "meminfo").unlink()
    for path in ("meminfo", "vmstat", "sys/vm/overcommit_memory"):
        (proc.root / path).mkdir()
    declared = [SysctlStatus("vm.swappiness", 60, 60, "x")]
    found = [sample for metric in host_metrics(procfs, declared) for sample in metric.samples]
    assert [(one.name, one.labels, one.value) for one in found] == [
        ("oomguard_sysctl_desired", {"sysctl": "vm.swappiness"}, 60),
        ("oomguard_sysctl_actual", {"sysctl": "vm.swappiness"}, 60),
    ]


@pytest.mark.parametrize("line", ["", "MemFree", "MemFree: much kB"])
def test_a_meminfo_that_no_kernel_writes_has_no_figures(proc: FakeProc, procfs: Procfs, line: str) -> None:
    """What serves it in a container may be another program; the rest is there."""
    (proc.root / "meminfo").write_text(f"MemTotal: 1 kB\n{line}\n")
    assert [metric.name for metric in host_metrics(procfs, ())] == ["oomguard_sysctl_actual"]


def test_a_pipe_or_a_link_in_place_of_the_file_holds_nothing_up(lonely: Exporter, tmp_path: Path) -> None:
    """Opening a pipe would wait for a writer for ever."""
    state = tmp_path / "state"
    state.mkdir()
    os.mkfifo(state / "status.json")
    assert lonely.scrape()["oomguard_up",] == 0
    (state / "status.json").unlink()
    (state / "status.json").symlink_to("/proc/self/status")
    assert lonely.scrape()["oomguard_up",] == 0


def test_a_folder_in_place_of_the_file_takes_no_descriptors(procfs: Procfs, tmp_path: Path) -> None:
    """A container's runtime makes one where a mount has no source yet."""
    (tmp_path / "status.json").mkdir()
    source, before = StatusSource(str(tmp_path), procfs), len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        assert source.read(0.0)[1].endswith("cannot be read: Is a directory")
    assert len(os.listdir("/proc/self/fd")) == before


def test_other_paths_and_methods_are_refused(lonely: Exporter) -> None:
    """With what there is."""
    for path in ("/nothing", "/metrics/", "/favicon.ico"):
        with pytest.raises(urllib.error.HTTPError) as caught:
            lonely.get(path)
        assert caught.value.code == 404
        caught.value.close()


def test_a_client_that_says_nothing_holds_up_no_scrape(lonely: Exporter) -> None:
    """Each has a thread of its own, and is disconnected after ten seconds."""
    host, _, port = lonely.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port))) as silent:
        silent.sendall(b"GET /metrics HTTP/1.1\r\nX: ")
        assert lonely.scrape()["oomguard_up",] == 0
        silent.settimeout(30)
        assert silent.recv(1) == b""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_when_it_is_told(lonely: Exporter, number: signal.Signals) -> None:
    """With exit code 0."""
    lonely.process.send_signal(number)
    assert lonely.process.wait(15) == 0


def test_openmetrics_is_spoken_to_who_asks(tmp_path: Path, policy: str) -> None:
    """With the same series, by the client library's own strict parser."""
    with running(tmp_path, policy) as daemon, exporting(tmp_path, daemon.state) as exporter:
        text = exporter.get(Accept=OPENMETRICS)
        assert text.endswith("# EOF\n")
        assert parse(text, is_openmetrics=True).keys() == exporter.scrape().keys()


@needs_promtool
def test_promtool_has_nothing_to_say_against_the_names(tmp_path: Path, policy: str) -> None:
    """Prometheus's own lint: units, suffixes, help texts."""
    with running(tmp_path, policy) as daemon, exporting(tmp_path, daemon.state) as exporter:
        linted = subprocess.run(
            [PROMTOOL, "check", "metrics"], input=exporter.get().encode(), capture_output=True, check=False
        )
        assert (linted.returncode, linted.stdout, linted.stderr) == (0, b"", b"")


def test_the_exporter_opens_neither_ledger_nor_lock(tmp_path: Path, policy: str) -> None:
    """Of the state folder it reads the status file, and it writes nowhere."""
    code = """if True:
        import os, sys
        opened = []
        def note(event, args):
            if event == "open":
                opened.append((os.fspath(args[0]) if not isinstance(args[0], int) else "", args[2]))
        sys.addaudithook(note)
        from oomguard.__main__ import main
        code = main()
        sys.stdout.flush()
        for path, flags in opened:
            print(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT), path, file=sys.stderr)
        sys.exit(code)
    """
    with running(tmp_path, policy) as daemon:
        command = [sys.executable, "-B", "-c", code, "exporter", "--textfile", "-"]
        done = subprocess.run(
            [*command, "--state-dir", str(daemon.state)], capture_output=True, text=True, check=True
        )
        assert parse(done.stdout)["oomguard_up",] == 1
        opened = [line.split(" ", 1) for line in done.stderr.splitlines()]
        assert ["0", "meminfo"] in opened
        assert {path for _, path in opened if str(daemon.state) in path} == {f"{daemon.state}/status.json"}
        assert {flags for flags, _ in opened} == {"0"}


def run_exporter(state: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the exporter to its end."""
    command = [sys.executable, "-m", "oomguard", "exporter", "--state-dir", str(state), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_textfile_is_replaced_as_a_whole(tmp_path: Path) -> None:
    """Whatever the umask, node_exporter can read it; and nothing else is left in its folder."""
    target = tmp_path / "prom" / "oomguard.prom"
    target.parent.mkdir()
    target.write_text("old")
    inode = target.stat().st_ino
    os.umask(0o077)
    try:
        done = run_exporter(tmp_path, "--textfile", str(target))
    finally:
        os.umask(0o022)
    assert done.returncode == 0
    assert parse(target.read_text())["oomguard_up",] == 0
    assert target.stat().st_mode & 0o777 == 0o644
    assert target.stat().st_ino != inode
    assert list(target.parent.iterdir()) == [target]


def test_a_textfile_is_written_through_no_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder may belong to another user, who would have root overwrite a file of root's."""
    precious = tmp_path / "precious"
    precious.write_text("precious")
    target = tmp_path / "prom" / "oomguard.prom"
    target.parent.mkdir()
    # Where the file is, and where the library of Prometheus writes it first.
    for name in ("oomguard.prom", f"oomguard.prom.{os.getpid()}.{threading.get_ident()}"):
        (target.parent / name).symlink_to(precious)
    monkeypatch.setattr(
        sys, "argv", ["oomguard", "exporter", "--state-dir", str(tmp_path), "--textfile", str(target)]
    )
    assert main() == 0
    assert precious.read_text() == "precious"
    assert not target.is_symlink()
    assert "oomguard_up" in target.read_text()


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--listen", "9100"), 2, "must be ADDRESS:PORT"),
        (("--listen", ":9100"), 2, "0.0.0.0:9100 for every network"),
        (("--listen", "example.com:9100"), 2, "must be an IP address"),
        (("--listen", "[127.0.0.1]:9100"), 2, "must be an IP address"),
        (("--listen", "127.0.0.1:99999"), 2, "a port from 0 to 65535"),
        (("--listen", "192.0.2.1:9100"), 1, "cannot listen on 192.0.2.1:9100"),
        (("--textfile", "/tmp/metrics.txt"), 2, "must end in .prom"),
        (("--textfile", "/nonexistent/x.prom"), 1, "No such file"),
        (("--rules", "-1"), 2, "must be a number from 0 to 999999999"),
        (("--textfile", "-", "--listen", "127.0.0.1:0"), 2, "cannot be combined with"),
    ],
)
def test_what_cannot_be_is_said(tmp_path: Path, options: tuple[str, ...], code: int, said: str) -> None:
    """With the way out."""
    done = run_exporter(tmp_path, *options)
    assert (done.returncode, said in done.stderr) == (code, True), done.stderr


def test_a_port_that_is_taken_is_said(lonely: Exporter, tmp_path: Path) -> None:
    """By its address."""
    taken = lonely.url.removeprefix("http://")
    done = run_exporter(tmp_path, "--listen", taken)
    assert (done.returncode, f"cannot listen on {taken}: Address already in use" in done.stderr) == (1, True)


def test_a_port_that_takes_root_is_said() -> None:
    """It may be free."""
    if Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text() == "0\n":
        pytest.skip("here any user may listen on any port")
    command = [*as_user(65534), sys.executable, "-P", "-m", "oomguard", "exporter", "--listen", "127.0.0.1:1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, "with an address of this host and a port from 1024 on" in done.stderr) == (
        1,
        True,
    )
