"""What `oomguard status` prints: the status file and the kernel's current values."""

import time
from collections.abc import Mapping

from rich.console import Console
from rich.text import Text

from oomguard.core.errors import OomguardError
from oomguard.core.overcommit import STRICT, Memory
from oomguard.core.policy import policy_option, some_files
from oomguard.core.text import counted, kib, span
from oomguard.report.problems import HostStatus, complaint, complaints, problems
from oomguard.report.status_file import StatusFile, SysctlStatus
from oomguard.report.tables import console, grid, print_text, table

_SHOWN = 10
"""Complaints and changes shown; --json has all of them."""


def print_status(seen: HostStatus, status: StatusFile, option: str) -> None:
    """Print the status of a running daemon, and the sysctls with their current values.

    `option` are `--state-dir` and `--proc` to repeat, "" for the defaults.
    """
    out = console()
    policy = status.policy
    age = span(time.time() - status.started_at)
    out.print(
        f"oomguard {status.version} is running (pid {status.pid}) for {age}\n"
        f"policy loaded {when(policy.loaded_at)}, {counted(policy.rules, 'rule')}, "
        f"{counted(status.processes_held, 'managed process', 'es')}",
        style="bold",
    )
    for text, style in problems(status, time.monotonic()):
        _line(out, text.lstrip(), indent=len(text) - len(text.lstrip()), style=style)
    if not policy.rules and not status.sysctls:
        _line(out, f"the policy is empty and changes nothing: {some_files(policy.files)}", style="yellow")
    _print_values(seen, out)
    _print_rules(status, out, policy_option(policy.path) + option)
    _print_complaints(status, out)
    if status.recent:
        out.print("\nLAST CHANGES", style="bold")
        made = grid()
        for change in status.recent[-_SHOWN:]:
            value = f"{change.from_} → {change.to}"
            made.add_row(when(change.at), change.subject, value, change.cause)
        out.print(made)


def print_stopped(seen: HostStatus, in_force: int | OomguardError, option: str) -> None:
    """Print that no daemon runs, how many of its values are in force or why that is unknown, and the sysctls.

    `option` are `--state-dir` and `--proc` to repeat, "" for the defaults. Of a daemon without a status file,
    print only that it runs.
    """
    out = console()
    if seen.lock_holder is not None:
        why = "its status file cannot be read" if seen.damage else "it has not written its status file"
        out.print(f"oomguard is running (pid {seen.lock_holder}), but {why}", style="bold")
    elif isinstance(in_force, OomguardError):
        out.print("oomguard is not running", style="bold")
        _line(out, f"values it set may still be in force: {in_force.message}", indent=2)
        _line(out, in_force.hint, indent=2)
    elif in_force:
        values = counted(in_force, "value")
        are = "is" if in_force == 1 else "are"
        out.print(f"oomguard is not running; {values} it set {are} still in force", style="bold")
        between = "\n  " if option else " " * 8
        hint = f"  restore: oomguard restore{option}{between}show them: oomguard plan --restore{option}"
        out.print(hint, soft_wrap=True)
    else:
        out.print("oomguard is not running", style="bold")
    if seen.policy_error is not None:
        _line(out, "no usable policy:", indent=2)
        for line in f"{seen.policy_error.message}\n{seen.policy_error.hint}".strip().splitlines():
            _line(out, line, indent=4)
    _print_values(seen, out)


def _print_values(seen: HostStatus, out: Console) -> None:
    """Print each sysctl of the policy, its current value, and why it differs; then what is promised."""
    if seen.sysctls:
        _print_sysctls(seen, out)
    if seen.memory is not None:
        out.print()
        _line(out, f"Promised  {promised(seen.memory, seen.mode)}")
    if (peak := seen.peak) is not None:
        _line(
            out, f"Peak      {kib(peak.committed_kib)} on {peak.day} (sustained; new limits must exceed it)"
        )


def _print_sysctls(seen: HostStatus, out: Console) -> None:
    why = {} if seen.daemon is None else {one.subject: one.result for one in seen.daemon.complaints}
    made = table("SYSCTL", "WANTED", "ACTUAL", "", right=("WANTED", "ACTUAL"))
    for row, actual in seen.sysctls:
        shown = "-" if actual is None else str(actual)
        note = Text.assemble((state(row, actual, why), "yellow"))
        if row.said:
            note.append(f"; {row.said}" if note else row.said)
        made.add_row(row.name, str(row.wanted), shown, note)
    out.print()
    out.print(made)


def state(row: SysctlStatus, actual: int | None, why: Mapping[str, str]) -> str:
    """Return how the actual value of a sysctl relates to the wanted one, "" if it is the same."""
    if actual is None:
        return "this kernel has no such sysctl"
    if row.is_met(actual):
        return ""
    if actual == row.granted:
        return "all that the kernel granted"
    return why.get(row.name, "differs")


def promised(memory: Memory, mode: int | None) -> str:
    """Return how much memory is promised, of how much, and whether the limit is enforced."""
    percent = 100 * memory.committed_kib // memory.commit_limit_kib if memory.commit_limit_kib else 0
    said = f"{kib(memory.committed_kib)} of {kib(memory.commit_limit_kib)} ({percent} %)"
    if mode is None:
        return said
    return f"{said}, {'' if mode == STRICT else 'not '}enforced: overcommit_memory is {mode}"


def when(at: float) -> str:
    """Return a time for a person: `09:12:04` if it was today, else `Nov 20 14:07`."""
    then, today = time.localtime(at), time.localtime()
    is_today = (then.tm_year, then.tm_yday) == (today.tm_year, today.tm_yday)
    return time.strftime("%H:%M:%S" if is_today else "%b %e %H:%M", then)


def _print_rules(status: StatusFile, out: Console, options: str) -> None:
    rules, of_all = status.rules, status.policy.rules
    if rules:
        made = table("RULE", "VALUE", "PROCESSES", "WHERE", right=("PROCESSES",))
        for rule in rules:
            where = rule.source.rpartition("/")[2]
            made.add_row(rule.label, rule.value, str(rule.processes), where)
        out.print()
        out.print(made)
    others = of_all - len(rules)
    if others > 0:
        matches = f"{counted(others, 'rule')} match{'es' if others == 1 else ''}"
        held = status.processes_held - sum(rule.processes for rule in rules)
        # The file lists so many rules at most, those with most processes.
        what = f"the other {matches} {counted(held, 'process', 'es')}" if held > 0 else f"{matches} nothing"
        out.print(f"{what}; see oomguard plan{options}", soft_wrap=True)


def _print_complaints(status: StatusFile, out: Console) -> None:
    groups = complaints(status)
    for group in groups[:_SHOWN]:
        out.print()
        _line(out, complaint(group), style="yellow")
        if group[0].hint:
            _line(out, group[0].hint, indent=2)
    if len(groups) > _SHOWN:
        out.print(f"and {len(groups) - _SHOWN} more; --json shows all")


def _line(out: Console, text: str, *, indent: int = 0, style: str = "") -> None:
    """Print a paragraph; to a file in one line, so that it can be searched for."""
    if out.is_terminal:
        print_text(out, text, indent=indent, style=style)
    else:
        out.print(" " * indent + text, soft_wrap=True)
