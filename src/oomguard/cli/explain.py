"""`oomguard explain`: every rule tried on a process, and which condition failed on which value."""

from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from oomguard.cli.host import find_itself, load_policy, open_procfs
from oomguard.core.cgroup import system_unit, user_unit
from oomguard.core.errors import OomguardError
from oomguard.core.match import first_unmet
from oomguard.core.policy import counted
from oomguard.core.process import COMM_LENGTH, UnknownFactError, full_name
from oomguard.core.text import printable
from oomguard.kernel.procfs import GONE
from oomguard.policy.paste import rule_for
from oomguard.reconcile.ledger import Ledger
from oomguard.reconcile.planner import Planner
from oomguard.report.document import print_json

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from oomguard.core.policy import Rule
    from oomguard.core.process import Process
    from oomguard.kernel.procfs import ProcessHandle, Procfs

_SHOWN = 30
"""Rules shown that merely name another process; a policy may have thousands."""

_PIDS = 8
"""Pids shown of processes that are alike in all else."""


class Tried(NamedTuple):
    """One rule held against the process: the condition that failed, "" if all hold."""

    rule: "Rule"
    unmet: str
    found: str


class Explanation(NamedTuple):
    """A process, the rules tried on it in order, what follows, and a rule to paste if none matches."""

    process: "Process"
    tried: list[Tried]
    verdict: str
    paste: str = ""


def run(options: "argparse.Namespace") -> int:
    """Explain each process of that pid or name."""
    policy = load_policy(options)
    procfs = open_procfs(options)
    planner = Planner(policy, Ledger(), procfs, itself=find_itself(options.state_dir, procfs))
    explanations = []
    for handle in _found_processes(options.process, procfs):
        with suppress(*GONE):
            explanations.append(_explain(handle, planner))
    if not explanations:
        raise _no_process(options.process)
    if options.json:
        print_json([_document(explanation) for explanation in explanations])
    else:
        for alike in _alike(explanations):
            _print(alike)
    return 0


def _no_process(wanted: str) -> OomguardError:
    if wanted.isdecimal():
        return OomguardError(
            f"no process has the pid {wanted}",
            hint="it has ended, or never was: see `ps -e` for those there are",
        )
    return OomguardError(
        f"no process {wanted!r} on this host",
        hint="give a pid or a process name as `ps -e` shows it; names are matched in full",
    )


def _alike(explanations: list[Explanation]) -> list[list[Explanation]]:
    """Return the explanations, those that differ in nothing but the pid together."""
    found: dict[object, list[Explanation]] = {}
    for one in explanations:
        process = one.process
        key = (process.comm, process.uid, system_unit(process.cgroup), process.oom_score_adj, one.verdict)
        tried = tuple((t.rule.number, t.unmet, t.found) for t in one.tried)
        found.setdefault((key, tried), []).append(one)
    return list(found.values())


def _found_processes(wanted: str, procfs: "Procfs") -> "Iterator[ProcessHandle]":
    if wanted.isdecimal():
        yield from procfs.processes([int(wanted)])
        return
    raw = wanted.encode("utf-8", "surrogateescape")
    for handle in procfs.processes():
        try:
            is_wanted = raw == handle.comm or (
                len(handle.comm) >= COMM_LENGTH
                and raw.startswith(handle.comm)
                and raw == full_name(handle.comm, handle.arguments)
            )
        except (*GONE, UnknownFactError):
            continue
        if is_wanted:
            yield handle


def _explain(handle: "ProcessHandle", planner: Planner) -> Explanation:
    process = handle.snapshot()
    if handle.stat.is_kernel_thread:
        return Explanation(process, [], "a kernel thread: never killed, so never matched")
    if handle.stat.is_zombie:
        return Explanation(process, [], "a zombie: it has ended and holds no memory, so it is never matched")
    if handle.pid == 1:
        return Explanation(process, [], "the init process: never killed, so never matched")
    if planner.itself.covers(handle):
        return Explanation(process, [], "oomguard itself: never matched")
    tried = []
    for rule in planner.policy.rules:
        unmet, found = _try(rule, process, handle, planner)
        tried.append(Tried(rule, unmet, found))
        if not unmet:
            return Explanation(process, tried, _verdict(rule, process))
    refused = next((one for one in tried if one.unmet == "trust"), None)
    if refused is not None:
        wanted = refused.rule.terms.value.wanted(process.oom_score_adj)
        asks = f"{refused.rule.label} ({refused.rule.source}) asks for {wanted}"
        return Explanation(process, tried, f"{asks}, refused: {refused.found}")
    return Explanation(process, tried, "no rule holds it; its value is its own", rule_for(process))


def _try(rule: "Rule", process: "Process", handle: "ProcessHandle", planner: Planner) -> tuple[str, str]:
    """Return the first condition that keeps a rule from governing the process, and what was found instead."""
    try:
        unmet: str = first_unmet(rule, handle, planner.search_within(handle)) or ""
        if not unmet and rule.terms.scope == "main" and not planner.is_topmost(rule, handle):
            unmet = "scope"
        if unmet:
            return unmet, _found(unmet, process)
        refusal = planner.refusal(rule, handle, own=process.oom_score_adj)
    except UnknownFactError as error:
        return "unknown", f"it cannot be read: {error}"
    return ("trust", f"{refusal.reason}; {refusal.hint}") if refusal is not None else ("", "")


def _verdict(rule: "Rule", process: "Process") -> str:
    value = process.oom_score_adj
    wanted = rule.terms.value.wanted(value)
    if wanted is None:
        return f"{rule.label} ({rule.source}) leaves it alone: {value} is its own"
    state = "as it is" if wanted == value else f"it has {value}"
    return f"{rule.label} ({rule.source}) gives {rule.terms.value}: {wanted}, {state}"


def _found(unmet: str, process: "Process") -> str:
    """Return the value on which a condition failed."""
    match unmet:
        case "name":
            return printable(full_name(process.comm, process.arguments))
        case "containers":
            return "it lives in a container"
        case "user":
            return f"uid {process.uid}"
        case "unit":
            return system_unit(process.cgroup) or f"no system unit ({process.cgroup})"
        case "user_unit":
            return user_unit(process.cgroup) or f"no user unit ({process.cgroup})"
        case "cgroup":
            return process.cgroup
        case "cmdline":
            return printable(b" ".join(process.arguments))[:200]
        case "exe":
            return "unreadable without CAP_SYS_PTRACE" if process.exe is None else printable(process.exe)
        case "scope":
            return f"its ancestor (parent {process.parent_pid}) is the topmost that matches"
        case _:
            return ""


def _document(explanation: Explanation) -> dict[str, Any]:
    process = explanation.process
    return {
        "pid": process.identity.pid,
        "comm": printable(process.comm),
        "arguments": [printable(argument) for argument in process.arguments],
        "uid": process.uid,
        "cgroup": process.cgroup,
        "exe": None if process.exe is None else printable(process.exe),
        "oom_score_adj": process.oom_score_adj,
        "tried": [
            {
                "rule": t.rule.label,
                "source": t.rule.source,
                "matched": not t.unmet,
                "unmet": t.unmet or None,
                "found": t.found or None,
            }
            for t in explanation.tried
        ],
        "verdict": explanation.verdict,
    }


def _print(alike: list[Explanation]) -> None:
    """Print what holds for one process, or for several that differ in their pid only."""
    from oomguard.report.tables import console, table

    explanation = alike[0]
    process = explanation.process
    out = console()
    unit = system_unit(process.cgroup)
    pids = [str(pid) for pid in sorted(one.process.identity.pid for one in alike)]
    if len(pids) > _PIDS:
        pids[_PIDS:] = [f"and {len(pids) - _PIDS} more"]
    out.print(
        f"{printable(process.comm)}[{', '.join(pids)}]  uid {process.uid}"
        f"{f'  {unit}' if unit else ''}  oom_score_adj {process.oom_score_adj}",
        style="bold",
    )
    others = [t for t in explanation.tried if t.unmet == "name"]
    shown = (
        explanation.tried if len(others) <= _SHOWN else [t for t in explanation.tried if t.unmet != "name"]
    )
    if shown:
        made = table("RULE", "WHERE", "RESULT")
        for tried in shown:
            result = f"{tried.unmet}: {tried.found}" if tried.unmet else "matches"
            made.add_row(
                tried.rule.label, f"line {tried.rule.line}", result, style="" if tried.unmet else "green"
            )
        out.print(made)
    if len(shown) < len(explanation.tried):
        out.print(f"and {counted(len(others), 'rule')} that name other processes")
    out.print(f"→ {explanation.verdict}\n")
    if explanation.paste:
        out.print("To match it, add this below rules:, with the value you want:")
        out.print(f"  {explanation.paste}\n", soft_wrap=True)
