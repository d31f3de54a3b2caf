"""The plan as a table: changes, obstacles, and what each rule matches."""

import shlex
from collections import Counter
from collections.abc import Iterator, Sequence

from rich.table import Table
from rich.text import Text

from oomguard.core.change import Change, Outcome, Planned, SetOomScoreAdj
from oomguard.core.choices import ObstacleKind
from oomguard.core.process import COMM_LENGTH
from oomguard.core.rule import Rule
from oomguard.core.tally import Tally, near_misses
from oomguard.core.text import counted, printable, some_of
from oomguard.report.sentences import sentence, subjects
from oomguard.report.tables import console, print_text, table

OBSTACLE_NAMES: dict[ObstacleKind, str] = {
    "refused": "refused",
    "denied": "denied here",
    "may-be-denied": "may be denied",
    "contended": "contended",
    "unknown": "unreadable",
}
"""Names of obstacles in tables."""

_RULES = 10
"""Rules named in one sentence; of more, only the number is shown."""


def print_plan(
    planned: Sequence[Planned], *, nothing: str, is_restore: bool, left: Sequence[Outcome]
) -> None:
    """Print the changes: what, from, to, obstacle and rule; then what is `left` alone; or `nothing`.

    With `is_restore`, no policy counts.
    """
    out = console()
    changes = [one.change for one in planned]
    if not changes and not left:
        out.print(nothing)
        return
    if changes:
        out.print(_plan_table(planned, is_restore=is_restore))
    for text, hint in _obstacles(changes):
        out.print()
        print_text(out, text, style="yellow")
        print_text(out, hint, indent=2)
    if changes and left:
        out.print()
    for outcome in left:
        out.print(sentence(outcome), soft_wrap=True)
    totals = _totals(changes, "to restore" if is_restore else "to change")
    out.print(f"\n{totals}{f', {len(left)} left alone' if left else ''}.")


def _plan_table(planned: Sequence[Planned], *, is_restore: bool) -> Table:
    has_obstacles = any(one.change.obstacle is not None for one in planned)
    made = table("WHAT", "FROM", "TO", *([""] if has_obstacles else []), "BY", right=("FROM", "TO"))
    for rule, group in _grouped(planned):
        first = group[0]
        obstacle = first.obstacle
        name = "" if obstacle is None else OBSTACLE_NAMES[obstacle.kind]
        state = [Text(name, style="yellow")] if has_obstacles else []
        by = _by(first, rule, is_restore=is_restore)
        made.add_row(subjects(group), str(first.before), _to(first), *state, by)
    return made


def print_matched(rules: Sequence[Rule], tally: Tally, *, options: str) -> None:
    """Print how many processes each rule matches, and similar names for rules that match none."""
    out = console()
    matched = tally.matched
    some = [rule for rule in rules if matched[rule.number]]
    none = [rule for rule in rules if not matched[rule.number]]
    if some:
        labels = Counter(rule.label for rule in some)
        each = [
            f"{matched[rule.number]} by {rule.label}{f' ({place(rule)})' if labels[rule.label] > 1 else ''}"
            for rule in some
        ]
        print_text(out, f"Processes matched: {some_of(each, _RULES, 'more rules')}.")
    if not none:
        return
    if len(none) > _RULES:
        out.print(f"{len(none)} rules match nothing.")
        return
    out.print("Rules that match nothing:")
    named = {name[:COMM_LENGTH] for rule in rules for name in rule.names}
    unnamed = [name for name in tally.unmatched if name not in named]
    for rule in none:
        why = _why_unmatched(rule, tally, unnamed, options)
        print_text(out, f"{rule.label} ({place(rule)}){why}", indent=2)


def _why_unmatched(rule: Rule, tally: Tally, unnamed: list[bytes], options: str) -> str:
    if tally.refused[rule.number]:
        return ", refused"
    first = tally.overtaken.get(rule.number)
    if first is not None:
        return f": {first.label} ({place(first)}) matches first"
    running = tally.running
    exact = next((name[:COMM_LENGTH] for name in rule.names if running[name[:COMM_LENGTH]]), None)
    if exact is not None:
        name = printable(exact)
        see = f"see oomguard explain {shlex.quote(name)}{options}"
        return f": {name} ({running[exact]}) runs, but not all conditions match; {see}"
    near = [f"{printable(name)} ({running[name]})" for name in near_misses(rule, unnamed)]
    return f": misspelled? No rule matches {', '.join(near)}" if near else ""


def _grouped(planned: Sequence[Planned]) -> list[tuple[Rule | None, list[Change]]]:
    """Return the changes by rule; processes that differ only in their pid are one group."""
    found: dict[object, tuple[Rule | None, list[Change]]] = {}
    for change, rule in planned:
        key: object = change.target
        if isinstance(change, SetOomScoreAdj):
            kind = None if change.obstacle is None else change.obstacle.kind
            number = None if rule is None else rule.number
            key = (change.comm, change.before, change.after, number, kind, change.inherited)
        found.setdefault(key, (rule, []))[1].append(change)
    return list(found.values())


def _obstacles(changes: Sequence[Change]) -> Iterator[tuple[str, str]]:
    """Yield each obstacle and its fix, once for a rule or a group of sysctls."""
    found: dict[object, list[Change]] = {}
    for change in changes:
        obstacle = change.obstacle
        if obstacle is None:
            continue
        whose: object = change.rule and change.rule.number if isinstance(change, SetOomScoreAdj) else ""
        if obstacle.kind in ("denied", "may-be-denied"):
            whose = ""  # the same for all
        reason = obstacle.reason if whose == "" else ""
        found.setdefault((obstacle.kind, whose, reason), []).append(change)
    for group in found.values():
        obstacle = group[0].obstacle
        assert obstacle is not None
        sysctls = [change.name for change in group if not isinstance(change, SetOomScoreAdj)]
        which = ", ".join(sysctls) or subjects(group)
        others = len({change.obstacle and change.obstacle.reason for change in group}) - 1
        more = f"; and {counted(others, 'other reason')}: oomguard explain PID" if others else ""
        yield f"{OBSTACLE_NAMES[obstacle.kind]}: {which}: {obstacle.reason}{more}", obstacle.hint


def _totals(changes: Sequence[Change], applied: str) -> str:
    counts = Counter(change.obstacle and change.obstacle.kind for change in changes)
    stopped = (f"{counts[kind]} {word}" for kind, word in OBSTACLE_NAMES.items() if counts[kind])
    return ", ".join([f"{counts[None]} {applied}", *stopped])


def _to(change: Change) -> Text:
    if change.obstacle is not None:
        return Text(str(change.after))
    if isinstance(change, SetOomScoreAdj):
        return Text(str(change.after), style="green" if change.after < change.before else "red")
    return Text(str(change.after), style="bold")


def _by(change: Change, rule: Rule | None, *, is_restore: bool) -> str:
    if isinstance(change, SetOomScoreAdj):
        if rule is not None:
            return f"{rule.label} ({place(rule)})"
        why = "inherited" if change.inherited else "" if is_restore else "no rule"
        return f"{why}: original value" if why else "original value"
    if change.cause == "restore":
        return "original value" if is_restore else "not in the policy: original value"
    file, _, line = change.source.rpartition(":")
    where = f"{_short(file)}:{line}"
    return f"{change.said} ({where})" if change.said else where


def place(rule: Rule) -> str:
    """Return where a rule was written, as `FILE:LINE` without the folder."""
    return f"{_short(rule.file)}:{rule.line}"


def _short(path: str) -> str:
    return printable(path.rpartition("/")[2])
