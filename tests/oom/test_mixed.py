"""Reports of two or three cgroups, mixed line by line: no report has what may be another's."""

import random
import re

import pytest

import oom_formats as formats
from oomguard.oom.log_reader import OomLog
from oomguard.oom.postmortem import examine
from oomguard.oom.report import Report
from oomguard.report.postmortem import Incident, facts, headline

_NAMES = {"/lxc/web/a": "/{0}/a", "/lxc/web": "/{0}", "apache2": "{0}d", "65536": "{1}", "sh": "{0}sh"}
"""What tells one report from another."""


def of_cgroup(name: str, number: int) -> list[str]:
    """Return the report of a cgroup of that name, with pids, sizes and processes of its own."""
    text = re.sub(r"\b90([01])\b", rf"{number}0\1", formats.MEMCG_3_16)
    pattern = re.compile("|".join(rf"(?<![\w.]){old}(?=\b|kB|KB)" for old in _NAMES))
    return pattern.sub(lambda found: _NAMES[found[0]].format(name, number * 4096), text).splitlines()


WEB, DB, JOBS = (of_cgroup(name, number) for number, name in enumerate(("web", "db", "jobs"), 3))
HOST = formats.host_report(formats.KERNELS[1])
SETS = {"two cgroups": (WEB, DB), "a cgroup and the host": (WEB, HOST), "three": (WEB, DB, JOBS)}


def read(lines: list[str]) -> list[Report]:
    """Read a log of these lines; each of them must be used."""
    log = OomLog()
    reports = list(log.read(["\n".join(lines)]))
    assert log.unread.count == 0
    return reports


@pytest.mark.parametrize("stamp", ["", "[   12.000000] "])
@pytest.mark.parametrize("name", SETS)
def test_report_has_nothing_that_may_be_anothers(name: str, stamp: str) -> None:
    """However their lines are mixed: each kill is told once, with what is certain."""
    rng = random.Random(name + stamp)
    alone = {one.kills[0].pid: one for lines in SETS[name] for one in read([stamp + line for line in lines])}
    mixed = 0
    for _ in range(200):
        parts = [[stamp + line for line in lines] for lines in SETS[name]]
        lines = []
        while most := max(map(len, parts)):  # none waits while another is printed whole
            part = rng.choice([part for part in parts if part and len(part) > most - 6])
            length = rng.choice((1, 1, 3, 5, 10))
            lines += part[:length]
            del part[:length]
        reports = read(lines)
        assert sorted(kill.pid for one in reports for kill in one.kills) == sorted(alone), lines
        for one in reports:
            mixed += one.is_mixed
            for kill in one.kills:
                expected, text = alone[kill.pid], "\n".join(lines)
                assert one.invoker in (None, expected.invoker), text
                assert one.oom_memcg in ("", expected.oom_memcg), text
                assert one.choice in (None, expected.choice), text
                assert one.tasks in ((), expected.tasks), text
                assert one.memory.cgroup in ({}, expected.memory.cgroup), text
                assert examine(one).constraint in (None, examine(expected).constraint), text
    assert mixed > 100


def test_mixed_report_says_so() -> None:
    """Who was killed is certain, and which memory ran out as the line of the kill says it."""
    lines = [line for pair in zip(WEB[:-2], DB[:-2], strict=True) for line in pair]
    begun, also_begun, web, db = read([*lines, *WEB[-2:], *DB[-2:]])
    assert [one.kills for one in (begun, also_begun)] == [(), ()]
    assert begun.invoker is not None
    assert headline(examine(web)) == "webd[301] was killed: a memory cgroup reached its limit."
    shown = dict(facts(Incident(1, examine(web))))
    assert shown["Missing"] == "whatever is not certain: lines of two reports may be mixed here"
    assert "asked for" not in shown["Memory"]
    assert not db.is_mixed  # both of its lines have its pid
    assert headline(examine(db)) == "dbd[401] was killed: a memory cgroup reached its limit."


def test_other_report_is_never_the_one_that_asked() -> None:
    """Two processes asked, and one of them was answered: nothing shows which."""
    report = read([WEB[0], *DB])[1]
    assert (report.invoker, report.oom_memcg, len(report.tasks)) == (None, "/db", 2)
    assert report.is_mixed
    assert [one.is_mixed for one in read([DB[0], *DB])] == [False, True]  # of two processes of that name
    again = read([f"[   12.000000] {line}" for line in (DB[0], *DB)])
    assert [one.is_mixed for one in again] == [False]  # somebody put it in front of the log
    times = [f"[  200.000000] {line}" for line in DB]
    assert [one.is_mixed for one in read([f"[   12.000000] {WEB[0]}", *times])] == [False, False]


def test_choices_that_interleave_are_no_parents() -> None:
    """The kill of what another report chose is not that of a child."""
    lines = [WEB[-2], DB[-2], WEB[-1], DB[-1]]
    assert [(one.choice and one.choice.pid, [kill.pid for kill in one.kills]) for one in read(lines)] == [
        *((301, []), (401, [])),
        *((None, [301]), (None, [401])),
    ]


def test_report_that_has_no_end_may_have_lines_in_the_second_after_it() -> None:
    """And not in a third: its end may be lost."""
    begun, between, after, later = WEB[:8], DB, JOBS, [line.replace("50", "60") for line in JOBS]
    reports = [one for one in read([*begun, *between, *after, *later]) if one.kills]
    assert [(one.kills[0].pid, one.is_mixed) for one in reports] == [(401, True), (501, True), (601, False)]
