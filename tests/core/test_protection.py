"""Which protective values count as inherited: the evidence, one case a row."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oomguard.core.protection import Holder, Protection, Protections, home_service, inherited

SINCE = 100
CRON = "cron.service"


@pytest.fixture
def protections() -> Protections:
    """Return what a policy leaves that gave cron -900 instead of 0, and a daemon without a service -500."""
    made = Protections()
    made.add(-900, CRON, 0, SINCE)
    made.add(-500, "", -100, SINCE)
    return made


def user(service: str = "", *, started: int = SINCE, in_container: bool = False) -> Holder:
    """Return a user's process."""
    return Holder(started, service, in_container)


def root(service: str = "", *, started: int = SINCE) -> Holder:
    """Return a process of root's."""
    return Holder(started, service, is_trusted=True)


@pytest.mark.parametrize(
    ("value", "chain"),
    [
        pytest.param(-900, [user()], id="an orphan in a session"),
        pytest.param(-900, [user(CRON)], id="an orphan in the service of the protected process"),
        pytest.param(-900, [user(), user(), root(CRON)], id="a descendant of root's process there"),
        pytest.param(-899, [user()], id="it lowered itself, down to the floor it inherited"),
        pytest.param(-1, [user()], id="it raised itself, almost as far as it may"),
        pytest.param(-900, [user(CRON, in_container=True)], id="in a PID namespace it made there"),
        pytest.param(-900, [user(), root()], id="its ancestor of root's is an orphan that inherited as well"),
    ],
)
def test_what_nothing_else_explains_was_inherited(
    protections: Protections, value: int, chain: list[Holder]
) -> None:
    """And the original of the protected process comes back."""
    found = inherited(protections, value, chain, is_set_by_trusted=False)
    assert found is not None
    assert found.original == 0


@pytest.mark.parametrize(
    ("value", "chain"),
    [
        pytest.param(0, [user()], id="any process may have 0"),
        pytest.param(300, [user()], id="or more"),
        pytest.param(-901, [user()], id="no floor that oomguard set lets it be there"),
        pytest.param(-900, [user(started=SINCE - 1)], id="it is older"),
        pytest.param(-900, [user(), user(started=SINCE - 1)], id="its ancestor had it before"),
        pytest.param(-900, [user("app.service")], id="OOMScoreAdjust= of its unit"),
        pytest.param(
            -900, [user(), root("xrdp.service")], id="OOMScoreAdjust= of the unit it was started by"
        ),
        pytest.param(-900, [user(in_container=True)], id="in a container: its runtime's value"),
        pytest.param(-500, [user(CRON)], id="a value that nothing in its service was given"),
    ],
)
def test_what_something_else_explains_is_its_own(
    protections: Protections, value: int, chain: list[Holder]
) -> None:
    """And is left alone."""
    if value == -500:
        protections.forget({-900})
    assert inherited(protections, value, chain, is_set_by_trusted=False) is None


def test_what_a_trusted_process_set_is_left_alone(protections: Protections) -> None:
    """`choom -n -900 -- runuser -u alice PROGRAM`, from root's shell. Who is not trusted sets nothing."""
    assert inherited(protections, -900, [user(), root()], is_set_by_trusted=True) is None
    assert inherited(protections, -900, [user(), user()], is_set_by_trusted=True) is not None


def test_the_highest_original_comes_back(protections: Protections) -> None:
    """Nobody is left with more protection than those it may have inherited from had before."""
    for original in (-200, -100, -300):
        protections.add(-900, "", original, SINCE)
    assert protections.origin(-900, user()) == Protection(0, SINCE)
    protections.forget({-500})
    protections.add(-800, "app.service", -100, SINCE)
    assert protections.origin(-800, user("app.service")) == Protection(-100, SINCE)


def test_no_user_makes_another_one_a_victim(protections: Protections) -> None:
    """By taking 1000 before a rule protects his process: what is reset by evidence gets 0 at most."""
    protections.add(-900, "", 1000, SINCE)
    assert protections.origin(-900, user()) == Protection(0, SINCE)


def test_only_what_protects_below_0_is_remembered() -> None:
    """What any process may give itself is no evidence."""
    made = Protections()
    assert not made.add(0, CRON, 200, SINCE)
    assert not made.add(100, CRON, 500, SINCE)
    assert not made.add(-500, CRON, -900, SINCE)
    assert not made
    assert not made.include(-1)


def test_a_protection_is_news_once() -> None:
    """So that it is written down once, however often processes are protected; the first time counts."""
    made = Protections()
    assert made.add(-900, CRON, -100, 10)
    assert not made.add(-900, CRON, -100, 20)
    assert made.add(-900, CRON, 0, 20)
    assert list(made) == [(-900, CRON, Protection(0, 10))]


def test_more_services_than_are_remembered_by_name_count_as_every_service() -> None:
    """Forgetting one would make inherited values its processes' own."""
    made = Protections()
    for number in range(2000):
        made.add(-900, f"{number}.service", 0, SINCE)
    assert len(made) < 1100
    assert made.origin(-900, user("1.service")) is not None
    assert made.origin(-900, user("1999.service")) is not None
    assert made.origin(-900, user("other.service")) is not None


def test_forgotten_values_are_evidence_of_nothing(protections: Protections) -> None:
    """Once no process can have them still."""
    protections.forget({-900})
    assert list(protections.values) == [-500]
    assert not protections.include(-900)
    assert protections.include(-500)


@pytest.mark.parametrize(
    ("path", "service"),
    [
        ("/system.slice/cron.service", "cron.service"),
        ("/system.slice/cron.service/job", "cron.service"),
        ("/machine.slice/systemd-nspawn@web.service/payload", "systemd-nspawn@.service"),
        ("/system.slice/ssh@12-10.0.0.1:22-10.0.0.2:50000.service", "ssh@.service"),
        ("/user.slice/user-1000.slice/user@1000.service/app.slice/cron.service", ""),
        ("/user.slice/user-1000.slice/session-3.scope", ""),
        ("/system.slice/docker-0123.scope", ""),
        ("/", ""),
        ("/alice/cron.service", ""),
    ],
)
def test_the_service_of_a_cgroup(path: str, service: str) -> None:
    """Only what the system's service manager starts, and whatever can be made at will as one."""
    assert home_service(path) == service


@given(
    st.lists(st.tuples(st.integers(-1000, 1000), st.integers(-1000, 1000), st.integers(0, 9)), max_size=8),
    st.integers(-1000, 1000),
    st.integers(0, 9),
)
def test_only_a_value_within_what_was_given_counts(
    rows: list[tuple[int, int, int]], value: int, started: int
) -> None:
    """For any history: never a process that is older, below everything given, or at 0 and more."""
    made = Protections()
    for given_value, original, since in rows:
        made.add(given_value, "", original, since)
    expected = any(
        given_value < original and given_value <= value < min(0, original) and since <= started
        for given_value, original, since in rows
        if given_value < 0
    )
    # Rows of one value are one: what started after the first and is below the highest original counts.
    if expected:
        assert made.origin(value, user(started=started)) is not None
    elif not made.include(value):
        assert made.origin(value, user(started=started)) is None
