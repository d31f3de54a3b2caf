"""Every kernel's reports in everything that tools and people put around them."""

import pytest

import oom_formats as formats
from log_dresses import DRESSES, WRAPPED, dressed
from oomguard.oom.log_reader import OomLog
from oomguard.oom.report import Report

REPORTS = {kernel.release: formats.host_report(kernel) for kernel in formats.KERNELS} | {
    name: getattr(formats, name).splitlines() for name in formats.TEXTS
}


def read(text: str, block: int = 1 << 20) -> tuple[list[Report], OomLog]:
    """Read a log in blocks of that many characters."""
    log = OomLog()
    return list(log.read(text[at : at + block] for at in range(0, len(text), block))), log


@pytest.mark.parametrize("dress", DRESSES)
def test_every_report_is_read_in_every_dress(dress: str) -> None:
    """The same kills and tasks as in the kernel's own words, and no line is left unread."""
    for name, lines in REPORTS.items():
        expected, _ = read("\n".join(lines))
        found, log = read(dressed(dress, lines))
        if dress in WRAPPED:  # whether a name had a space is lost with the end of a line
            expected = [_without_spaces(one) for one in expected]
            found = [_without_spaces(one) for one in found]
        for key in ("kills", "tasks", "choice", "context", "group"):
            values = [[getattr(one, key) for one in reports] for reports in (found, expected)]
            assert values[0] == values[1], (name, key)
        if dress not in WRAPPED:
            assert [one.memory for one in found] == [one.memory for one in expected], name
            assert [one.invoker for one in found] == [one.invoker for one in expected], name
        assert log.unread_count == 0, name


@pytest.mark.parametrize("dress", DRESSES)
def test_a_dress_is_the_same_in_pieces(dress: str) -> None:
    """Neighbors are known wherever a block ends."""
    text = dressed(dress, REPORTS["6.12.1"])
    assert read(text, 97)[0] == read(text)[0]


@pytest.mark.parametrize("dress", [dress for dress in DRESSES if dress not in WRAPPED])
def test_a_line_of_a_report_alone_says_what_it_has(dress: str) -> None:
    """What `grep` leaves of a report is the kill, or the line is counted; nothing is invented."""
    lines = REPORTS["6.12.1"]
    reports, log = read(dressed(dress, lines[-1:]))
    kills = [(kill.pid, kill.comm) for report in reports for kill in report.kills]
    victim = (formats.VICTIM.pid, formats.VICTIM.comm)
    assert kills == [victim] or (not kills and log.unread_count == 1)


def _without_spaces(report: Report) -> Report:
    return report._replace(
        kills=tuple(kill._replace(comm=kill.comm.replace(" ", "")) for kill in report.kills),
        tasks=tuple(task._replace(comm=task.comm.replace(" ", "")) for task in report.tasks),
        choice=report.choice and report.choice._replace(comm=report.choice.comm.replace(" ", "")),
        context=report.context and report.context._replace(comm=report.context.comm.replace(" ", "")),
    )
