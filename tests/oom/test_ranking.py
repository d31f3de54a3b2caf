"""The kill order, and what a policy makes of it."""

from oomguard.core.decide import Decision, Obstacle
from oomguard.core.process import Identity
from oomguard.oom.badness import Usage, era_of
from oomguard.oom.ranking import Candidate, Domain, Reserve, rank, reserve_new, reserve_now

DOMAIN = Domain(1_000_000)


def candidate(pid: int, pages: int, value: int = 0, **known: object) -> Candidate:
    """Return a process that holds some pages, all of them its own."""
    made = Candidate(Identity(pid, pid), b"p%d" % pid, 0, value, Usage(pages), pages * 4)
    return made._replace(**known)  # type: ignore[arg-type]  # fields of Candidate


def decided(pid: int, wanted: int, obstacle: Obstacle | None = None) -> Decision:
    """Return a decision on a process that has 0."""
    return Decision(Identity(pid, pid), b"p", None, 0, 0, wanted, obstacle=obstacle)


def pids(ranked: list[object]) -> list[int]:
    """Return the order by pid."""
    return [one.candidate.identity.pid for one in ranked]  # type: ignore[attr-defined]  # Ranked


def test_the_largest_goes_first_and_the_exempt_last() -> None:
    """Init, -1000 and what the kernel skips have no place, and are shown nevertheless."""
    found = rank(
        [
            candidate(1, 900_000, exemption="init"),
            candidate(2, 10),
            candidate(3, 900_000, value=-1000),
            candidate(4, 500),
            candidate(5, 500),
        ],
        DOMAIN,
    )
    assert pids([*found]) == [5, 4, 2, 1, 3]
    assert [one.now.place for one in found] == [1, 2, 3, None, None]


def test_an_old_kernel_spares_root() -> None:
    """It takes 3 % off: this host's kernel may be one of those before 4.17."""
    candidates = [candidate(1, 1000, is_admin=True), candidate(2, 980)]
    era = era_of("4.4.0")
    assert era is not None
    assert pids([*rank(candidates, DOMAIN)]) == [1, 2]
    assert pids([*rank(candidates, DOMAIN._replace(era=era))]) == [2, 1]


def test_a_policy_gives_every_process_a_second_place() -> None:
    """One without a decision keeps its value; so does one whose rule is refused, and it says why."""
    found = rank(
        [candidate(1, 500), candidate(2, 10), candidate(3, 20)],
        DOMAIN,
        {1: decided(1, -500), 2: decided(2, 300), 3: decided(3, -900, Obstacle("refused", "by name only"))},
    )
    assert [(one.candidate.identity.pid, one.now.place, one.new and one.new.place) for one in found] == [
        (1, 1, 3),
        (3, 2, 2),
        (2, 3, 1),
    ]
    assert found[1].decision is not None
    assert found[1].decision.obstacle == Obstacle("refused", "by name only")


def test_the_reserve_ends_at_the_first_protected_process() -> None:
    """A protected giant may go before what is small: it is reached all the same."""
    candidates = [candidate(1, 100), candidate(2, 600_000, value=-100), candidate(3, 510_000)]
    found = rank(candidates, DOMAIN, {3: decided(3, -600), 2: decided(2, 0)})
    now, new = reserve_now(found), reserve_new(found)
    assert (now.kib, now.processes, now.before) == (510_000 * 4, 1, candidates[1])
    assert new is not None
    assert (new.kib, new.processes, new.before) == (600_100 * 4, 2, candidates[2])


def test_a_reserve_of_everything_names_nobody() -> None:
    """It counts those at -1000. Without a policy, there is no second one."""
    found = rank([candidate(1, 100), candidate(2, 100, value=-1000)], DOMAIN)
    assert reserve_now(found) == Reserve(400, 1, None, never=1)
    assert reserve_new(found) is None
