"""The file of peaks: written when something lasted, removed to forget, ignored where it is not ours."""

import os
import stat
from pathlib import Path

import pytest

from fakeproc import FakeProc
from oomguard.core.overcommit import Peak
from oomguard.core.peaks import LASTING_SECONDS
from oomguard.core.policy import Policy, SysctlSetting
from oomguard.kernel.procfs import Procfs
from oomguard.reconcile.ledger import Ledger
from oomguard.reconcile.peak_file import PeakFile
from oomguard.reconcile.reconciler import Reconciler
from oomguard.reconcile.state_folder import LASTING_FOLDER, RUN_FOLDER

NOON = 1_795_262_400.0
"""2026-11-21 12:00 UTC."""

GIB = 1024 * 1024


class Clock:
    """The time of day, as a test sets it."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> float:
        """Return the seconds since 1970."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """Return a clock at noon."""
    return Clock()


@pytest.fixture
def peaks(tmp_path: Path, clock: Clock) -> PeakFile:
    """Return the peaks of a state folder that is not there yet."""
    return PeakFile(str(tmp_path / "state"), clock)


def last(peaks: PeakFile, level: int, *, since: float = 0.0) -> None:
    """Have a level last."""
    peaks.note(level, since)
    peaks.note(level, since + LASTING_SECONDS)


def test_the_hosts_daemon_keeps_it_where_a_reboot_leaves_it() -> None:
    """Others beside what else they keep."""
    assert PeakFile(RUN_FOLDER).path == f"{LASTING_FOLDER}/committed.json"
    assert PeakFile("/tmp/x").path == "/tmp/x/committed.json"


def test_what_lasted_is_there_for_the_next_daemon(peaks: PeakFile, clock: Clock) -> None:
    """With its day, readable by everyone and written by its owner only."""
    peaks.note(9 * GIB, 0.0)
    assert peaks.highest() is None
    peaks.note(9 * GIB, LASTING_SECONDS)
    path = Path(peaks.path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    again = PeakFile(str(path.parent), clock)
    assert again.highest() == Peak(9 * GIB, "2026-11-21", str(path))
    assert (peaks.trouble, again.trouble) == ("", "")
    assert os.listdir(path.parent) == ["committed.json"]


def test_removing_the_file_forgets_it_at_once(peaks: PeakFile) -> None:
    """While the daemon runs, too; what lasts now is noted again."""
    last(peaks, 9 * GIB)
    Path(peaks.path).unlink()
    assert peaks.highest() is None
    peaks.note(2 * GIB, 2 * LASTING_SECONDS)
    found = peaks.highest()
    assert found is not None
    assert found.committed_kib == 2 * GIB


def test_days_follow_each_other_by_the_clock(peaks: PeakFile, clock: Clock) -> None:
    """What lasted once is out after a week, unless it lasted again."""
    last(peaks, 9 * GIB)
    clock.now += 8 * 86400
    last(peaks, GIB, since=8 * 86400.0)
    found = peaks.highest()
    assert found is not None
    assert (found.committed_kib, found.day) == (GIB, "2026-11-29")
    last(peaks, 8 * GIB, since=9 * 86400.0)
    clock.now += 20 * 86400
    found = peaks.highest()
    assert found is not None
    assert (found.committed_kib, found.day) == (8 * GIB, "2026-11-29")


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"\xff", b'{"version": 2, "days": []}', b"[" * 100_000]
)
def test_a_damaged_file_is_ignored_and_said_and_replaced(peaks: PeakFile, content: bytes) -> None:
    """A host is not refused for it."""
    last(peaks, GIB)
    Path(peaks.path).write_bytes(content)
    assert peaks.highest() is None
    assert peaks.trouble.startswith(f"{peaks.path} is ignored: ")
    peaks.note(GIB, 2 * LASTING_SECONDS)
    assert peaks.highest() is not None
    assert peaks.trouble == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
@pytest.mark.parametrize(("uid", "mode"), [(1000, 0o755), (0, 0o777), (0, 0o775)])
def test_a_folder_that_others_may_write_is_ignored(peaks: PeakFile, uid: int, mode: int) -> None:
    """They would choose what this host may put in force."""
    last(peaks, 9 * GIB)
    folder = Path(peaks.path).parent
    os.chown(folder, uid, 0)
    folder.chmod(mode)
    assert peaks.highest() is None
    assert "others may write to its folder" in peaks.trouble
    peaks.note(10 * GIB, 2 * LASTING_SECONDS)
    assert f"{folder}: " in peaks.trouble


def test_nothing_is_said_of_a_file_that_is_not_there(peaks: PeakFile) -> None:
    """In a folder that others may write to, such as /tmp."""
    folder = Path(peaks.path).parent
    folder.mkdir()
    folder.chmod(0o777)
    assert peaks.highest() is None
    assert peaks.trouble == ""


def test_a_link_in_its_place_is_not_followed(peaks: PeakFile, tmp_path: Path) -> None:
    """Nor is it written through."""
    other = tmp_path / "other"
    other.write_text("{}")
    Path(peaks.path).parent.mkdir(mode=0o755)
    Path(peaks.path).symlink_to(other)
    assert peaks.highest() is None
    assert "symbolic link" in peaks.trouble
    last(peaks, GIB)
    assert other.read_text() == "{}"


def test_where_it_cannot_be_written_the_daemon_goes_on(tmp_path: Path, clock: Clock) -> None:
    """And can say so."""
    (tmp_path / "file").touch()
    peaks = PeakFile(str(tmp_path / "file"), clock)
    last(peaks, GIB)
    assert "file" in peaks.trouble
    assert peaks.highest() is None


def test_a_limit_that_was_refused_at_noon_is_refused_after_a_reboot(
    proc: FakeProc, procfs: Procfs, peaks: PeakFile, clock: Clock
) -> None:
    """Until the file is removed, or it was long ago."""
    for name, value in {"memory": 0, "ratio": 50, "kbytes": 0}.items():
        proc.sysctl(f"vm.overcommit_{name}", value)
    strict = Policy(sysctls=(SysctlSetting("vm.overcommit_memory", 2, "p.yaml", 1),))

    def results(committed_kib: int) -> list[tuple[str, str]]:
        proc.meminfo(Committed_AS=committed_kib)
        reconciler = Reconciler(strict, Ledger(), procfs, promised_peak=peaks.highest)
        return [(outcome.result, outcome.reason) for outcome in reconciler.sysctls("start", 0.0)]

    ((result, reason),) = results(9 * GIB)
    assert (result, "Committed_AS is 9.0 GiB" in reason) == ("refused", True)
    last(peaks, 9 * GIB)
    ((result, reason),) = results(GIB // 8)
    assert (result, "peaked at 9.0 GiB on 2026-11-21" in reason) == ("refused", True)
    clock.now += 8 * 86400
    last(peaks, GIB // 8, since=8 * 86400.0)
    assert results(GIB // 8) == [("applied", "")]
