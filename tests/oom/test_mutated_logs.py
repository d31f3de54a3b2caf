"""Logs that somebody damaged: nothing is invented, no line about a kill is lost, and nothing fails.

Each is a report in some dress, with a few of the mutations below. `OOMGUARD_MUTATED_LOGS` is how many are
tried (600), from the seed `OOMGUARD_MUTATION_SEED`.
"""

import os
import random
import re
from collections.abc import Callable

import pytest
from test_dresses import REPORTS

from cpu import cpu_bound
from log_dresses import DRESSES, PREFIXES, WRAPPED, dressed
from oomguard.oom.log_line import plain
from oomguard.oom.log_reader import OomLog
from oomguard.oom.pasted import as_logged
from oomguard.oom.postmortem import examine
from oomguard.report.postmortem import headline

COUNT = int(os.environ.get("OOMGUARD_MUTATED_LOGS", "600"))
SEED = int(os.environ.get("OOMGUARD_MUTATION_SEED", "20261127"))
NAMED = re.compile(
    r"(?P<killed>[Kk]illed process (?P<pid>\d{1,10})(?:, UID \d{1,10},)? \()"
    r"|(?P<chosen>[Kk]ill process (?P<choice>\d{1,10}) \()|invoked oom-killer:|of memory: Kill"
    r"|total-vm:\d{1,20}kB, anon-rss:\d"
)
"""What shows that a line is about a kill, whatever stands around it."""


def truncate(rng: random.Random, text: str) -> str:
    """Leave the beginning or the end."""
    at = rng.randrange(len(text))
    return text[:at] if rng.random() < 0.5 else text[at:]


def cut_middle(rng: random.Random, text: str) -> str:
    """Leave out a few characters, line breaks included."""
    at = rng.randrange(len(text))
    return text[:at] + text[at + int(rng.expovariate(1 / 80)) :]


def join(rng: random.Random, text: str) -> str:
    """Lose a line break."""
    lines = text.splitlines(keepends=True)
    at = rng.randrange(len(lines))
    lines[at] = lines[at].rstrip("\n")
    return "".join(lines)


def swap(rng: random.Random, text: str) -> str:
    """Exchange two lines."""
    lines = text.splitlines(keepends=True)
    one, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    lines[one], lines[other] = lines[other], lines[one]
    return "".join(lines)


def duplicate(rng: random.Random, text: str) -> str:
    """Have a line twice."""
    lines = text.splitlines(keepends=True)
    lines.insert(rng.randrange(len(lines) + 1), rng.choice(lines))
    return "".join(lines)


def change_prefix(rng: random.Random, text: str) -> str:
    """Put another tool's prefix in front of a line."""
    lines = text.splitlines(keepends=True)
    prefix = rng.choice([*PREFIXES.values()]).format(stamp="[ 8523.000000] ", number=8, micros=8)
    lines[rng.randrange(len(lines))] = f"{prefix}{rng.choice(lines)}"
    return "".join(lines)


def mix(rng: random.Random, text: str) -> str:
    """Interleave it with another log."""
    parts = [text.splitlines(keepends=True), a_log(rng)[1].splitlines(keepends=True)]
    lines = []
    while any(parts):
        lines.append(rng.choice([part for part in parts if part]).pop(0))
    return "".join(lines)


MUTATIONS: tuple[Callable[[random.Random, str], str], ...] = (
    *(truncate, cut_middle, join, swap, duplicate, change_prefix, mix),
)


def a_log(rng: random.Random) -> tuple[str, str]:
    """Return a dress and a report in it. What a terminal or a mail wrapped has names in pieces."""
    dress = rng.choice([one for one in DRESSES if one not in WRAPPED and one != "mail"])
    return dress, dressed(dress, rng.choice([*REPORTS.values()]))


def lost(text: str) -> list[object]:
    """Return the lines about a kill that are neither in a report nor listed, and pids that no line has."""
    log = OomLog()
    reports = list(log.read([text]))
    for report in reports:
        assert headline(examine(report)).isprintable()
    killed = {kill.pid for report in reports for kill in report.kills}
    chosen = {report.chosen.pid for report in reports if report.chosen is not None}
    logged, reversed_lines = as_logged(plain([text]))
    text = "".join(logged)
    found: list[object] = [pid for pid in killed if not re.search(rf"process {pid}\b", text)]
    listed = {one.number for one in log.unread.lines}
    for at, line in enumerate(text.split("\n"), 1):
        number = reversed_lines + 1 - at if reversed_lines else at
        for name in NAMED.finditer(line) if number not in listed else ():
            if name["pid"] or name["choice"]:
                is_told = int(name["pid"] or name["choice"]) in (killed if name["pid"] else killed | chosen)
            else:
                is_told = bool(reports)
            if not is_told:
                found.append((number, line))
    return found


@pytest.mark.parametrize("part", range(6))
def test_no_damage_hides_or_invents_a_kill(part: int) -> None:
    """Whatever is cut, joined, exchanged or mixed; and it takes no longer for it."""
    rng = random.Random(f"{SEED} {part}")
    for number in range(COUNT // 6):
        dress, text = a_log(rng)
        mutations = rng.choices(MUTATIONS, k=rng.choice((1, 1, 2, 3)))
        for mutation in mutations:
            text = mutation(rng, text) if text.strip() else text
        with cpu_bound(0.5 + len(text) * 1e-4, f"number {number} of {SEED} {part}"):
            assert lost(text) == [], (dress, [one.__name__ for one in mutations], text)
