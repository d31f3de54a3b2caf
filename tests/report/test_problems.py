"""What is wrong with a daemon, as `status` shows it."""

from oomguard.report.problems import problems
from oomguard.report.status_file import KillCount
from statuses import IDLE


def test_kills_are_counted_by_rule_and_once_if_all_are_of_one() -> None:
    """A number is not repeated."""
    none, chrome = (
        KillCount("", protected=False, count_=2),
        KillCount("name=chrome", protected=True, count_=12),
    )
    killed = "since oomguard started, the kernel killed"
    assert [*problems(IDLE._replace(kills=(none,)))] == [
        (f"{killed} 2 processes that no rule matches; see oomguard postmortem", "yellow")
    ]
    ((text, style),) = problems(IDLE._replace(kills=(chrome, none)))
    assert "killed 14 processes, matched: 12 by name=chrome, 2 by no rule;" in text
    assert style == "red"
