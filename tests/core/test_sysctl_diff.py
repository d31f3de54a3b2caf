"""Which sysctls are written together, and the laws of applying and restoring them in a model kernel."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from oomguard.core.change import SetSysctl, grouped
from oomguard.core.entry import Entry
from oomguard.core.overcommit import MODE, Memory, Peak
from oomguard.core.policy import Policy, SysctlSetting
from oomguard.core.sysctl import SYSCTLS, after_writing
from oomguard.core.sysctl_diff import diff_sysctls, left_alone

RATIO, KBYTES = "vm.overcommit_ratio", "vm.overcommit_kbytes"
DIRTY_RATIO, DIRTY_BYTES = "vm.dirty_ratio", "vm.dirty_bytes"
PARTNERS = {RATIO: KBYTES, KBYTES: RATIO, DIRTY_RATIO: DIRTY_BYTES, DIRTY_BYTES: DIRTY_RATIO}
"""What the kernel zeroes, by its own code: mm/util.c, mm/page-writeback.c."""
PAGES = "vm.nr_hugepages"
PLENTY = Memory(10**9, 0, 0, 10**9, 0)


def policy(**values: int) -> Policy:
    """Return a policy that asks for sysctls of vm.* by their short names."""
    made = [
        SysctlSetting(f"vm.{name}", value, "p.yaml", line)
        for line, (name, value) in enumerate(values.items(), 1)
    ]
    return Policy(sysctls=tuple(made))


@pytest.mark.parametrize(
    ("name", "now", "value", "reason"),
    [
        ("overcommit_memory", 0, 2, "/proc/meminfo cannot be read"),
        ("overcommit_memory", 0, 1, ""),
        ("overcommit_ratio", 50, 80, "/proc/meminfo cannot be read"),
        ("nr_hugepages", 0, 8, "/proc/meminfo cannot be read"),
        ("min_free_kbytes", 67584, 131072, "/proc/meminfo cannot be read"),
        ("max_map_count", 65530, 1000, "1000 is less than 1024"),
        ("swappiness", 60, 10, ""),
    ],
)
def test_without_meminfo_what_depends_on_it_is_refused(name: str, now: int, value: int, reason: str) -> None:
    """It could take any host down. A restore gives back what this one had."""
    actual, asked = {f"vm.{name}": now}, policy(**{name: value})
    (change,) = diff_sysctls(asked, actual, None, {}, cause="policy")
    assert (change.obstacle is not None) == bool(reason)
    assert change.obstacle is None or change.obstacle.reason.startswith(reason)
    (change,) = diff_sysctls(asked._replace(force=True), actual, None, {}, cause="policy")
    assert change.obstacle is None
    (change,) = diff_sysctls(Policy(), actual, None, {f"vm.{name}": Entry(value, now)}, cause="restore")
    assert change.obstacle is None


def test_what_depends_on_each_other_is_refused_as_one() -> None:
    """A limit that must not be enforced must not be written either: the mode may be set later, by hand."""
    changes = diff_sysctls(
        policy(overcommit_memory=2, overcommit_ratio=3, user_reserve_kbytes=0, swappiness=10),
        {MODE: 0, RATIO: 50, KBYTES: 0, "vm.user_reserve_kbytes": 8, "vm.swappiness": 60},
        Memory(1000, 0, 0, 500, 400),
        {},
        cause="policy",
    )
    refused = {change.name: change.obstacle for change in changes}
    assert refused.pop("vm.swappiness") is None
    assert refused.keys() == {MODE, RATIO, "vm.user_reserve_kbytes"}
    (reason,) = set(refused.values())
    assert reason is not None
    assert reason.reason.startswith("CommitLimit would be 30 KiB")


def test_what_depends_on_nothing_else_is_refused_alone() -> None:
    """One limit that would take the host down keeps no other sysctl from its value."""
    changes = diff_sysctls(
        policy(min_free_kbytes=900, swappiness=10),
        {"vm.min_free_kbytes": 8, "vm.swappiness": 60},
        Memory(1000, 0, 0, 500, 400),
        {},
        cause="policy",
    )
    assert [change.name for change in changes if change.obstacle is not None] == ["vm.min_free_kbytes"]
    assert len(changes) == 2


def test_huge_pages_alone_are_refused_where_they_lower_a_limit_in_force() -> None:
    """Strict accounting is the host's own, and the policy does not name it."""
    host = Memory(16_777_216, 0, 0, 8_388_608, 6_291_456, 0, 2048, 16_000_000)
    actual = {MODE: 2, RATIO: 50, KBYTES: 0, PAGES: 0}
    (change,) = diff_sysctls(policy(nr_hugepages=4000), actual, host, {}, cause="policy")
    assert change.obstacle is not None
    assert change.obstacle.reason.startswith("CommitLimit would be 4.1 GiB")
    (change,) = diff_sysctls(policy(nr_hugepages=4000), actual | {MODE: 0}, host, {}, cause="policy")
    assert change.obstacle is None


def test_a_part_that_was_granted_is_what_drift_is_measured_against() -> None:
    """Another number that is asked for, or that is there, is to be written."""
    ledger = {PAGES: Entry(0, 14, made=13)}

    def due(asked: int, there: int) -> list[tuple[int, int, str]]:
        found = diff_sysctls(policy(nr_hugepages=asked), {PAGES: there}, None, ledger, cause="policy")
        return [(change.before, change.after, change.cause) for change in found]

    assert due(14, 13) == []
    assert due(14, 12) == [(12, 14, "drift")]
    assert due(15, 13) == [(13, 15, "policy")]
    restored = diff_sysctls(Policy(), {PAGES: 13}, None, ledger, cause="restore")
    assert [(change.before, change.after) for change in restored] == [(13, 0)]


def test_what_goes_back_goes_back_piece_by_piece_unless_it_ends_in_strict_accounting() -> None:
    """One that cannot be restored keeps no other from it; but no limit is put in force in part."""
    ledger = {MODE: Entry(0, 2), RATIO: Entry(50, 90)}
    changes = diff_sysctls(Policy(), {MODE: 2, RATIO: 90, KBYTES: 0}, PLENTY, ledger, cause="restore")
    assert [[change.name for change in group] for group in grouped(changes)] == [[MODE], [RATIO]]
    ledger = {MODE: Entry(2, 0), RATIO: Entry(50, 10)}
    changes = diff_sysctls(Policy(), {MODE: 0, RATIO: 10, KBYTES: 0}, PLENTY, ledger, cause="restore")
    assert [[change.name for change in group] for group in grouped(changes)] == [[RATIO, MODE]]


class Kernel:
    """What the kernel does with sysctls, and the ledger kept of it as `reconcile.apply` keeps it."""

    def __init__(self, values: dict[str, int], pages: int) -> None:
        self.values = dict(values)
        self.pages = pages
        """The most huge pages that it grants."""
        self.ledger: dict[str, Entry] = {}

    def write(self, name: str, value: int) -> None:
        """Write one, as whoever."""
        if name.startswith("vm.dirty") and self.values[name] == value:
            return
        made = min(value, self.pages) if name == PAGES else value
        expected = after_writing(self.values, {name: made})
        self.values[name] = made
        if name in PARTNERS:
            self.values[PARTNERS[name]] = 0
        assert self.values == expected

    def plan(self, policy: Policy) -> list[SetSysctl]:
        """Return what is due."""
        return diff_sysctls(policy, self.values, PLENTY, self.ledger, cause="policy")

    def apply(self, policy: Policy) -> None:
        """Make every change that is due."""
        for change in self.plan(policy):
            partner = SYSCTLS[change.name].partner
            if change.cause == "restore":
                self.ledger.pop(change.name, None)
                self.ledger.pop(partner, None)
            else:
                is_first = change.name not in self.ledger
                self._record(change.name, change.after)
                if self.values.get(partner) and (is_first or partner in self.ledger):
                    self._record(partner, 0)
            self.write(change.name, change.after)
            made = self.values[change.name]
            if change.name in self.ledger and made != change.after:
                self.ledger[change.name] = self.ledger[change.name]._replace(made=made)

    def _record(self, name: str, after: int) -> None:
        before, known = self.values[name], self.ledger.get(name)
        if known is None:
            self.ledger[name] = Entry(before, after)
        elif known.given != after or known.made is not None:
            self.ledger[name] = Entry(known.original, after, before if known.is_ours(before) else None)


NAMES = (MODE, RATIO, KBYTES, DIRTY_RATIO, DIRTY_BYTES, PAGES, "vm.swappiness")
numbers = st.integers(0, 3)


@st.composite
def starts(draw: st.DrawFn) -> dict[str, int]:
    """Generate what the kernel has at first: never both of a pair."""
    values = {name: draw(numbers) for name in NAMES} | {MODE: draw(st.integers(0, 1))}
    for one, other in ((RATIO, KBYTES), (DIRTY_RATIO, DIRTY_BYTES)):
        values[draw(st.sampled_from([one, other]))] = 0
    return values


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    """Generate what a policy asks for: never both of a pair."""
    wanted: dict[str, int] = draw(st.dictionaries(st.sampled_from(NAMES), numbers))
    if MODE in wanted:
        wanted[MODE] = min(wanted[MODE], 2)
    for one, other in ((RATIO, KBYTES), (DIRTY_RATIO, DIRTY_BYTES)):
        if one in wanted:
            wanted.pop(other, None)
    return policy(**{name.removeprefix("vm."): value for name, value in wanted.items()})


@settings(deadline=None)
@given(starts(), policies(), numbers)
@example({RATIO: 50, KBYTES: 0}, policy(overcommit_kbytes=0), 3)
@example({DIRTY_RATIO: 0, DIRTY_BYTES: 3}, policy(dirty_ratio=0), 3)
def test_applying_a_plan_leaves_an_empty_plan(start: dict[str, int], wanted: Policy, pages: int) -> None:
    """For any kernel and policy, and every value is the declared one, or as much of it as is granted."""
    kernel = Kernel(start, pages)
    kernel.apply(wanted)
    assert kernel.plan(wanted) == []
    for setting in wanted.sysctls:
        granted = min(setting.value, pages) if setting.name == PAGES else setting.value
        assert kernel.values[setting.name] in (granted, setting.value)


@settings(deadline=None)
@given(starts(), st.lists(policies(), min_size=1, max_size=4), numbers)
@example({RATIO: 50, KBYTES: 0}, [policy(overcommit_kbytes=7), policy(overcommit_ratio=9)], 3)
def test_restoring_after_any_policies_gives_back_the_start(
    start: dict[str, int], wanted: list[Policy], pages: int
) -> None:
    """However many policies were in force one after another."""
    kernel = Kernel(start, max(pages, start.get(PAGES, 0)))
    for one in wanted:
        kernel.apply(one)
    kernel.apply(Policy())
    assert kernel.values == start
    assert kernel.plan(Policy()) == []


@settings(deadline=None)
@given(starts(), policies(), st.lists(st.tuples(st.sampled_from(NAMES), st.integers(4, 9)), max_size=4))
@example({RATIO: 50, KBYTES: 0}, policy(overcommit_ratio=8), [(KBYTES, 5)])
def test_drift_is_healed_and_does_not_become_the_start(
    start: dict[str, int], wanted: Policy, writes: list[tuple[str, int]]
) -> None:
    """What the policy names gets its start back; what it does not name is whoever wrote it last."""
    kernel = Kernel(start, 9)
    kernel.apply(wanted)
    for name, value in writes:
        if name != MODE:
            kernel.write(name, value)
    strange = dict(kernel.values)
    kernel.apply(wanted)
    assert kernel.plan(wanted) == []
    kernel.apply(Policy())
    declared = {setting.name: setting.value for setting in wanted.sysctls}
    for name in start:
        if name in declared and start[name] != declared[name]:
            # A 0 stays what is declared when somebody puts its partner in force: that is theirs.
            assert kernel.values[name] == start[name] or declared[name] == 0
        elif name not in declared and SYSCTLS[name].partner not in declared:
            assert kernel.values[name] == strange[name]


@settings(deadline=None)
@given(starts(), policies(), st.sampled_from(NAMES[1:]), st.integers(4, 9))
def test_what_somebody_else_wrote_last_is_not_restored(
    start: dict[str, int], wanted: Policy, name: str, value: int
) -> None:
    """It is in force after a restore as it was before."""
    kernel = Kernel(start, 9)
    kernel.apply(wanted)
    kernel.write(name, value)
    kernel.apply(Policy())
    assert kernel.values[name] == value


def test_a_sysctl_that_the_kernel_lacks_by_now_is_nothing_to_restore() -> None:
    """Its module was removed."""
    ledger = {"vm.swappiness": Entry(60, 10)}
    assert diff_sysctls(Policy(), {}, None, ledger, cause="restore") == []
    assert left_alone(Policy(), {}, ledger) == []


@pytest.mark.parametrize(
    ("value", "actual", "entry"),
    [(60, 10, Entry(60, 10)), (10, 60, Entry(60, 10, is_written=False))],
    ids=["the original", "never written"],
)
def test_what_the_policy_wants_is_neither_restored_nor_drift(value: int, actual: int, entry: Entry) -> None:
    """An exact value may be the original one, and what was never written was not changed by others."""
    ledger = {"vm.swappiness": entry}
    found = diff_sysctls(policy(swappiness=value), {"vm.swappiness": actual}, None, ledger, cause="policy")
    assert [(change.after, change.cause) for change in found] == [(value, "policy")]


def test_a_restore_of_the_hosts_own_limit_is_refused_for_no_peak() -> None:
    """It was in force before oomguard came."""
    host = Memory(16_777_216, 0, 0, 8_388_608, 1_048_576, 0, 2048, 12_000_000)
    peak = Peak(15_000_000, "2026-11-01", "/x")
    actual = {MODE: 0, RATIO: 50, KBYTES: 0}
    (change,) = diff_sysctls(Policy(), actual, host, {MODE: Entry(2, 0)}, cause="restore", peak=peak)
    assert (change.after, change.obstacle) == (2, None)
