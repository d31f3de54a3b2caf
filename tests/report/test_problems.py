"""What is wrong with a daemon, as `status` shows it."""

from oomguard.report.problems import HostStatus, problems
from oomguard.report.status_file import KillCount
from statuses import IDLE


def test_kills_are_counted_by_rule_and_once_if_all_are_of_one() -> None:
    """A number is not repeated."""
    none, chrome = (
        KillCount("", protected=False, count_=2),
        KillCount("name=chrome", protected=True, count_=12),
    )
    killed = "since oomguard started, the kernel killed"
    assert [*problems(IDLE._replace(kills=(none,)), 0.0)] == [
        (f"{killed} 2 processes that no rule matches; see oomguard postmortem", "yellow")
    ]
    ((text, style),) = problems(IDLE._replace(kills=(chrome, none)), 0.0)
    assert "killed 14 processes, matched: 12 by name=chrome, 2 by no rule;" in text
    assert style == "red"


def test_a_rule_is_named_once_and_what_is_not_named_is_counted() -> None:
    """The numbers add up: what a rule protects may be killed, and what it does not protect, too."""
    kills = [KillCount("name=a", protected=one, count_=2) for one in (False, True)]
    ((text, _),) = problems(IDLE._replace(kills=tuple(kills)), 0.0)
    assert "killed 4 processes matched by name=a;" in text
    kills += [KillCount(f"name={number}", protected=False, count_=1) for number in range(6)]
    ((text, _),) = problems(IDLE._replace(kills=tuple(kills)), 0.0)
    assert ": 4 by name=a, 1 by name=0, 1 by name=1, 1 by name=2, 1 by name=3 and 2 more rules;" in text


def test_a_daemon_that_misses_two_passes_is_a_problem() -> None:
    """With the grace that a busy host needs: it may hang, or a signal has stopped it."""
    host = HostStatus(IDLE, IDLE, [], None, None, None, "", None, None)
    assert [*problems(IDLE, 150)] == []
    assert host.is_as_wanted(150)
    ((text, style),) = problems(IDLE, 151)
    assert (text, style) == (
        "it has not written its status for 3 minutes: it hangs",
        "red",
    )
    assert not host.is_as_wanted(151)
    assert not host.is_as_wanted(-2)  # the file is of another boot
    assert host.is_as_wanted(-0.0005)  # it was rounded, and is read at once
