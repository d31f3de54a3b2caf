"""Sysctls that depend on each other: all of them are written or none, whichever write fails."""

import errno
import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakeproc import FakeKernel, FakeProc
from mounts import read_only
from oomguard.core.change import Outcome
from oomguard.core.choices import Cause
from oomguard.core.entry import Entry
from oomguard.core.overcommit import KBYTES, MODE, RATIO
from oomguard.core.policy import Policy, SysctlSetting
from oomguard.core.sysctl import SYSCTLS
from oomguard.kernel.procfs import Procfs
from oomguard.reconcile.ledger import Ledger, open_hosts_ledger, open_ledger
from oomguard.reconcile.reconciler import Reconciler
from oomguard.reconcile.state_folder import StateFolder

PAGES, ADMIN, USER = "vm.nr_hugepages", "vm.admin_reserve_kbytes", "vm.user_reserve_kbytes"
START = {MODE: 0, RATIO: 50, KBYTES: 0, ADMIN: 8192, USER: 131072, PAGES: 0, "vm.swappiness": 60}


class Failing(FakeKernel):
    """A kernel that fails one write, by its number, or all from that one on."""

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self.writes = 0
        self.fail_at = 0
        self.errno = errno.EINVAL
        self.fails_for_ever = False

    def write(self, path: str, text: bytes) -> None:
        """Write, unless it is this write's turn to fail."""
        self.writes += 1
        if self.writes == self.fail_at or (self.fails_for_ever and 0 < self.fail_at <= self.writes):
            raise OSError(self.errno, os.strerror(self.errno))
        super().write(path, text)


@pytest.fixture
def failing(proc: FakeProc) -> Iterator[Failing]:
    """Return a kernel with the overcommit sysctls of START."""
    for name, value in START.items():
        proc.sysctl(name, value)
    with closing(Failing(str(proc.root))) as kernel:
        yield kernel


def asking(**values: int) -> Policy:
    """Return a policy of sysctls of vm.*, in the order of the table."""
    names = [name for name in SYSCTLS if name.removeprefix("vm.") in values]
    rows = [SysctlSetting(name, values[name.removeprefix("vm.")], "p.yaml", 1) for name in names]
    return Policy(sysctls=tuple(rows))


STRICT = asking(overcommit_memory=2, overcommit_kbytes=9_000_000, admin_reserve_kbytes=65536, nr_hugepages=14)


def said(outcomes: Sequence[Outcome]) -> dict[str, str]:
    """Return what became of each sysctl."""
    return {str(outcome.change.target): outcome.result for outcome in outcomes}


def bring(reconciler: Reconciler, cause: Cause = "policy", now: float = 0.0) -> list[Outcome]:
    """Bring the sysctls to the policy."""
    return list(reconciler.sysctls(cause, now))


@pytest.mark.parametrize("code", [errno.EINVAL, errno.EACCES, errno.EROFS, errno.EPERM])
@pytest.mark.parametrize("at", [1, 2, 3, 4])
def test_whichever_write_fails_all_are_as_before(
    proc: FakeProc, failing: Failing, folder: StateFolder, at: int, code: int
) -> None:
    """Partners included: kbytes had zeroed the ratio. The ledger has nothing to restore, on file neither."""
    ledger = open_ledger(folder, boot_id="fake-boot", is_alive=lambda _: True)
    reconciler = Reconciler(STRICT, ledger, failing)
    failing.fail_at, failing.errno = at, code
    outcomes = bring(reconciler)
    assert set(said(outcomes).values()) == {"denied"}
    assert len(outcomes) == 4
    assert {outcome.errno for outcome in outcomes} == {code}
    assert proc.sysctls() == START
    assert ledger.sysctls == {}
    ledger.close()
    assert open_ledger(folder, boot_id="fake-boot", is_alive=lambda _: True).sysctls == {}
    failed = next(outcome for outcome in outcomes if "changed together with" not in outcome.reason)
    for outcome in outcomes:
        if outcome is not failed:
            assert (
                outcome.reason
                == f"changed together with {failed.change.target}, which was denied: {failed.reason}"
            )


def test_what_fails_once_is_applied_at_the_next_pass_and_restored_as_a_whole(
    proc: FakeProc, failing: Failing
) -> None:
    """As if it had never failed."""
    reconciler = Reconciler(STRICT, Ledger(), failing)
    failing.fail_at = 3
    bring(reconciler)
    assert set(said(bring(reconciler, now=60.0)).values()) == {"applied"}
    assert proc.sysctls() == START | {MODE: 2, RATIO: 0, KBYTES: 9_000_000, ADMIN: 65536, PAGES: 14}
    assert bring(reconciler) == []
    reconciler.adopt(Policy())
    assert set(said(bring(reconciler, "restore")).values()) == {"applied"}
    assert proc.sysctls() == START
    assert reconciler.ledger.sysctls == {}


@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_policy_that_cannot_follow_another_leaves_that_in_force(
    proc: FakeProc, failing: Failing, at: int
) -> None:
    """Its values stay oomguard's own, and their originals are those from before both."""
    reconciler = Reconciler(STRICT, Ledger(), failing)
    bring(reconciler)
    before, entries = proc.sysctls(), dict(reconciler.ledger.sysctls)
    reconciler.adopt(asking(overcommit_memory=2, overcommit_ratio=90, admin_reserve_kbytes=4096))
    failing.fail_at = failing.writes + at
    assert set(said(bring(reconciler)).values()) == {"denied"}
    assert proc.sysctls() == before
    assert reconciler.ledger.sysctls == entries
    reconciler.adopt(Policy())
    bring(reconciler, "restore")
    assert proc.sysctls() == START


def test_what_fails_is_taken_back_the_last_first(proc: FakeProc, failing: Failing) -> None:
    """Strict accounting is in force again only when its limit is."""

    class Checking(Failing):
        def write(self, path: str, text: bytes) -> None:
            super().write(path, text)
            found = proc.sysctls()
            assert found[MODE] == 0 or found[KBYTES] == 9_000_000

    with closing(Checking(str(proc.root))) as checking:
        reconciler = Reconciler(STRICT, Ledger(), checking)
        bring(reconciler)
        before = proc.sysctls()
        reconciler.adopt(
            asking(overcommit_memory=0, overcommit_kbytes=8_000_000, admin_reserve_kbytes=131072)
        )
        checking.fail_at = checking.writes + 4
        assert set(said(bring(reconciler)).values()) == {"denied"}
    assert proc.sysctls() == before


def test_a_read_only_file_is_found_before_anything_is_written(proc: FakeProc, failing: Failing) -> None:
    """So a container with a read-only /proc/sys sees no value flicker."""
    reconciler = Reconciler(STRICT, Ledger(), failing)
    with read_only(proc.root / "sys" / "vm" / "overcommit_memory"):
        outcomes = bring(reconciler)
        assert set(said(outcomes).values()) == {"denied"}
        assert outcomes[0].reason == (
            "changed together with vm.overcommit_memory, which was denied: /proc/sys is read-only here"
        )
        assert failing.writes == 0
    assert set(said(bring(reconciler, now=60.0)).values()) == {"applied"}


def test_what_was_denied_and_taken_back_waits_longer_each_time(failing: Failing) -> None:
    """Its own writes wake the watch on a sysctl, which must not make it try again at once."""
    reconciler = Reconciler(STRICT, Ledger(), failing)
    failing.fail_at, failing.fails_for_ever = 1, True
    tried = [now for now in range(16) if bring(reconciler, "drift" if now % 2 else "resync", float(now))]
    assert tried == [0, 1, 3, 7, 15]
    failing.fail_at = 0
    assert bring(reconciler, "drift", 16.0) == []
    assert set(said(bring(reconciler, "resync", 60.0)).values()) == {"applied"}
    assert not reconciler.ledger.sysctls[MODE].is_ours(0)


def test_what_cannot_be_taken_back_is_named_and_stays_in_the_ledger(proc: FakeProc, failing: Failing) -> None:
    """Once /proc/sys is writable again it can be restored."""
    reconciler = Reconciler(STRICT, Ledger(), failing)
    failing.fail_at, failing.errno, failing.fails_for_ever = 3, errno.EROFS, True
    outcomes = bring(reconciler)
    stuck = {str(o.change.target) for o in outcomes if "could not be restored" in o.reason}
    assert stuck == {KBYTES, ADMIN}
    assert all(entry.is_written for entry in reconciler.ledger.sysctls.values())
    failing.fail_at = 0
    reconciler.adopt(Policy())
    bring(reconciler, "restore")
    assert proc.sysctls() == START


class Mute(Failing):
    """A kernel that has no descriptor for the first look at what was written to a sysctl."""

    unread = written = ""

    def write(self, path: str, text: bytes) -> None:
        """Write a file."""
        super().write(path, text)
        self.written = path

    def read(self, path: str, limit: int = 65536) -> bytes:
        """Read a file, unless it is the one."""
        if path == self.written == self.unread:
            self.unread = ""
            raise OSError(errno.ENFILE, os.strerror(errno.ENFILE))
        return super().read(path, limit)


@pytest.mark.parametrize("unread", [MODE, KBYTES, ADMIN, PAGES])
@pytest.mark.parametrize("fail_at", [0, 4])
def test_what_cannot_be_read_back_was_written(
    proc: FakeProc, failing: Failing, unread: str, fail_at: int
) -> None:
    """Its original value is in the ledger, and a group that fails takes it back."""
    proc.grant(PAGES, 13)
    with closing(Mute(str(proc.root))) as mute:
        mute.unread, mute.fail_at = SYSCTLS[unread].path, fail_at
        reconciler = Reconciler(STRICT, Ledger(), mute)
        assert set(said(bring(reconciler)).values()) == {"denied" if fail_at else "applied"}
        assert (proc.sysctls() == START) == bool(fail_at)
        assert bool(reconciler.ledger.sysctls) != bool(fail_at)
        reconciler.adopt(Policy())
        bring(reconciler, "restore")
    assert proc.sysctls() == START


@pytest.mark.parametrize("at", [1, 2, 3, 4])
def test_what_is_taken_back_in_part_can_still_be_restored(proc: FakeProc, failing: Failing, at: int) -> None:
    """Of 14 huge pages, 5 are in use when their group fails."""

    class Used(Failing):
        in_use = 5

        def write(self, path: str, text: bytes) -> None:
            is_pages = path == SYSCTLS[PAGES].path
            super().write(path, b"%d\n" % max(int(text), self.in_use) if is_pages else text)

    with closing(Used(str(proc.root))) as used:
        used.fail_at = at
        reconciler = Reconciler(STRICT, Ledger(), used)
        assert set(said(bring(reconciler)).values()) == {"denied"}
        used.in_use = 0
        reconciler.adopt(Policy())
        bring(reconciler, "restore")
    assert proc.sysctls() == START


def test_what_somebody_else_wrote_meanwhile_is_not_taken_back(proc: FakeProc, failing: Failing) -> None:
    """Theirs came last."""

    class Rival(Failing):
        def write(self, path: str, text: bytes) -> None:
            if path.endswith("overcommit_memory"):
                proc.sysctl(ADMIN, 777)
            super().write(path, text)

    with closing(Rival(str(proc.root))) as rival:
        rival.fail_at = 4
        bring(Reconciler(STRICT, Ledger(), rival))
    assert proc.sysctls() == START | {ADMIN: 777}


def test_one_that_something_else_keeps_rewriting_holds_back_all_of_its_group(
    proc: FakeProc, failing: Failing
) -> None:
    """Half of a group is what the other half was never judged with."""
    reconciler = Reconciler(STRICT, Ledger(), failing)
    bring(reconciler)
    for turn in range(6):
        proc.sysctl(ADMIN, turn)
        proc.sysctl(MODE, 0)
        outcomes = bring(reconciler, "drift", 1.0)
    assert set(said(outcomes).values()) == {"contended"}
    assert {outcome.reason for outcome in outcomes} == {"something else keeps rewriting it"}
    proc.sysctl(PAGES, 3)
    (outcome,) = [one for one in bring(reconciler, "drift", 1.0) if one.change.target == PAGES]
    assert outcome.reason == f"something else keeps rewriting {ADMIN}, {MODE}"


# What the kernel makes of a value


def test_a_part_of_the_huge_pages_is_granted_and_said(proc: FakeProc, failing: Failing) -> None:
    """13 of 14: no drift, no second try, and all of them go back."""
    proc.grant(PAGES, 13)
    reconciler = Reconciler(asking(nr_hugepages=14), Ledger(), failing)
    (outcome,) = bring(reconciler)
    assert (outcome.result, outcome.made) == ("applied", 13)
    assert "hugepages=" in outcome.hint
    assert bring(reconciler) == []
    proc.sysctl(PAGES, 5)
    (outcome,) = bring(reconciler, "drift")
    assert (outcome.change.before, outcome.change.cause, outcome.made) == (5, "drift", 13)
    reconciler.adopt(Policy())
    bring(reconciler, "restore")
    assert proc.sysctls()[PAGES] == 0
    assert reconciler.ledger.sysctls == {}


def test_the_limit_is_computed_from_the_huge_pages_that_were_granted(
    proc: FakeProc, failing: Failing
) -> None:
    """Fewer pages go than were to, so the mode would enforce less than planned: all is taken back."""
    proc.sysctl(PAGES, 6000)
    proc.meminfo(HugePages_Total=6000, Hugetlb=6000 * 2048, Committed_AS=3 * 1024 * 1024)

    class Busy(FakeKernel):
        """A kernel whose huge pages are in use."""

        def write(self, path: str, text: bytes) -> None:
            super().write(path, b"%d\n" % max(5500, int(text)) if path.endswith("nr_hugepages") else text)

    policy = asking(overcommit_memory=2, overcommit_ratio=60, nr_hugepages=0)
    start = proc.sysctls()
    with closing(Busy(str(proc.root))) as kernel:
        reconciler = Reconciler(policy, Ledger(), kernel)
        outcomes = bring(reconciler)
    assert set(said(outcomes).values()) == {"refused"}
    assert all("CommitLimit would be 3.2 GiB" in outcome.reason for outcome in outcomes)
    assert proc.sysctls() == start
    assert reconciler.ledger.sysctls == {}


def test_what_is_spared_for_one_sysctl_is_not_spared_for_another(proc: FakeProc, failing: Failing) -> None:
    """Each would fit what is available now, and both do not."""
    proc.sysctl("vm.min_free_kbytes", 65536)
    proc.meminfo(MemAvailable=4 * 1024 * 1024)

    class Taking(FakeKernel):
        """A kernel that has less available once huge pages are taken."""

        def write(self, path: str, text: bytes) -> None:
            super().write(path, text)
            if path.endswith("nr_hugepages"):
                proc.meminfo(MemAvailable=4 * 1024 * 1024 - 2048 * int(text))

    policy = asking(nr_hugepages=1500, min_free_kbytes=1048576)
    # In the table min_free_kbytes comes first, and would leave less for huge pages the other way round.
    policy = policy._replace(sysctls=policy.sysctls[::-1])
    with closing(Taking(str(proc.root))) as kernel:
        reconciler = Reconciler(policy, Ledger(), kernel)
        assert all(change.obstacle is None for change in reconciler.planner.sysctl_changes("policy"))
        assert said(bring(reconciler)) == {PAGES: "applied", "vm.min_free_kbytes": "refused"}
    assert proc.sysctls()["vm.min_free_kbytes"] == 65536


@pytest.mark.parametrize("granted", [0, 1, 13, 14])
def test_after_a_crash_between_write_and_reading_back_huge_pages_are_restored(
    proc: FakeProc, failing: Failing, folder: StateFolder, granted: int
) -> None:
    """How many were granted was not noted yet."""
    ledger = open_ledger(folder, boot_id="fake-boot", is_alive=lambda _: True)

    class CrashError(Exception):
        pass

    class Crashing(FakeKernel):
        def write(self, path: str, text: bytes) -> None:
            super().write(path, text)
            raise CrashError

    proc.grant(PAGES, granted)
    with closing(Crashing(str(proc.root))) as kernel, pytest.raises(CrashError):
        bring(Reconciler(asking(nr_hugepages=14), ledger, kernel))
    assert proc.sysctls()[PAGES] == granted
    ledger.close()
    again = open_hosts_ledger(folder, failing)
    assert again.sysctls == ({PAGES: Entry(0, 14, is_grant_pending=True)} if granted else {})
    bring(Reconciler(Policy(), again, failing), "restore")
    assert proc.sysctls()[PAGES] == 0


def test_an_unread_sysctl_of_a_crashed_writer_keeps_nobody_from_starting(
    proc: FakeProc, failing: Failing, folder: StateFolder
) -> None:
    """Its intent stays on file; all else can be managed, and restored."""
    ledger = open_ledger(folder, boot_id="fake-boot", is_alive=lambda _: True)
    ledger.record(PAGES, Entry(0, 14, is_written=False))
    ledger.close()
    (proc.root / SYSCTLS[PAGES].path).write_text("damaged\n")
    again = open_hosts_ledger(folder, failing, to_restore=True)
    assert again.sysctls == {PAGES: Entry(0, 14, is_written=False)}
    again.close()


def test_what_the_kernel_made_of_a_value_outlives_the_daemon(
    proc: FakeProc, failing: Failing, folder: StateFolder
) -> None:
    """Another one sees no drift in it."""
    ledger = open_ledger(folder, boot_id="fake-boot", is_alive=lambda _: True)
    proc.grant(PAGES, 13)
    bring(Reconciler(asking(nr_hugepages=14), ledger, failing))
    ledger.close()
    again = open_ledger(folder, boot_id="fake-boot", is_alive=lambda _: True)
    assert again.sysctls == {PAGES: Entry(0, 14, made=13)}
    assert bring(Reconciler(asking(nr_hugepages=14), again, failing), "start") == []


# The running kernel

HOST = "/proc/sys/vm"


@pytest.mark.skipif(not os.access(f"{HOST}/dirty_ratio", os.W_OK), reason="sysctls are root's")
def test_the_running_kernel_takes_back_what_it_refuses_in_part() -> None:
    """A limit out of range, after one that had zeroed its partner; then all of it with one in range."""
    names = ("dirty_ratio", "dirty_bytes", "dirty_background_ratio", "dirty_background_bytes")
    lock = os.open(HOST, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)

    def values() -> dict[str, int]:
        return {name: int(Path(HOST, name).read_text()) for name in names}

    before = values()
    try:
        with closing(Procfs()) as procfs:
            reconciler = Reconciler(asking(dirty_bytes=1 << 30, dirty_background_ratio=101), Ledger(), procfs)
            outcomes = bring(reconciler)
            assert {outcome.errno for outcome in outcomes} == {errno.EINVAL}
            assert values() == before
            assert reconciler.ledger.sysctls == {}
            reconciler.adopt(asking(dirty_bytes=1 << 30, dirty_background_ratio=7))
            assert set(said(bring(reconciler)).values()) == {"applied"}
            assert (values()["dirty_ratio"], values()["dirty_bytes"]) == (0, 1 << 30)
            reconciler.adopt(Policy())
            bring(reconciler, "restore")
            assert values() == before
    finally:
        for name, value in sorted(before.items(), key=lambda item: item[1] == 0):
            if values()[name] != value:
                Path(HOST, name).write_text(f"{value}\n")
        os.close(lock)


# The laws of it

numbers = st.integers(0, 3)
members = {"overcommit_memory": st.integers(0, 2), "nr_hugepages": numbers, "user_reserve_kbytes": numbers}
pairs: st.SearchStrategy[dict[str, int]] = st.one_of(
    st.just({}),
    st.fixed_dictionaries({"overcommit_ratio": numbers}),
    st.fixed_dictionaries({"overcommit_kbytes": numbers}),
)
policies = st.builds(
    lambda some, pair: asking(**some, **pair)._replace(force=True),
    st.fixed_dictionaries({}, optional=members),
    pairs,
)
writes = st.tuples(policies, st.integers(0, 6))


@settings(deadline=None, max_examples=200)
@given(
    st.fixed_dictionaries({RATIO: numbers, KBYTES: st.just(0)}),
    st.lists(writes, max_size=4),
    st.integers(0, 3),
)
def test_after_any_failures_a_group_is_all_or_none_and_a_restore_gives_back_the_start(
    tmp_path_factory: pytest.TempPathFactory,
    pair: dict[str, int],
    steps: list[tuple[Policy, int]],
    granted: int,
) -> None:
    """Whatever was asked for before, whichever write failed, and however much was granted."""
    proc = FakeProc(tmp_path_factory.mktemp("proc"))
    start = START | pair
    for name, value in start.items():
        proc.sysctl(name, value)
    proc.grant(PAGES, granted)
    with closing(Failing(str(proc.root))) as kernel:
        reconciler = Reconciler(Policy(), Ledger(), kernel)
        for policy, fail_at in steps:
            before = proc.sysctls()
            reconciler.adopt(policy)
            kernel.fail_at = kernel.writes + fail_at if fail_at else 0
            outcomes = bring(reconciler)
            coupled = [outcome for outcome in outcomes if getattr(outcome.change, "group", "")]
            assert len(set(said(coupled).values())) <= 1
            if coupled and coupled[0].result == "denied":
                assert proc.sysctls() == before
        kernel.fail_at = 0
        reconciler.adopt(Policy())
        bring(reconciler, "restore")
    assert proc.sysctls() == start


def test_what_is_refused_is_tried_at_each_pass(proc: FakeProc, procfs: Procfs) -> None:
    """Only what the kernel denied waits longer each time."""
    proc.sysctl("vm.min_free_kbytes", 67584)
    asked = Policy(sysctls=(SysctlSetting("vm.min_free_kbytes", 1 << 40, "f", 1),))
    reconciler = Reconciler(asked, Ledger(), procfs)
    for now in (0.0, 0.1):
        assert [one.result for one in reconciler.sysctls("resync", now)] == ["refused"]
