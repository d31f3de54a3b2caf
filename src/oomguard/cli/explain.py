"""`oomguard explain`: every rule tried on a process, and which condition failed on which value."""

import difflib
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from oomguard.cli.host import load_policy, open_preview
from oomguard.core.cgroup import system_unit, user_unit
from oomguard.core.decide import Decision
from oomguard.core.errors import OomguardError
from oomguard.core.match import first_unmet
from oomguard.core.policy import counted
from oomguard.core.process import COMM_LENGTH, INIT_PID, UnknownFactError, full_name
from oomguard.core.text import legible, printable
from oomguard.kernel.procfs import GONE, HIDDEN
from oomguard.policy.paste import rule_for
from oomguard.report.document import decision_document, print_json
from oomguard.report.text import outlook

if TYPE_CHECKING:
    import argparse
    from collections.abc import Collection, Sequence

    from oomguard.core.policy import Rule
    from oomguard.core.process import Process
    from oomguard.kernel.procfs import ProcessHandle
    from oomguard.reconcile.planner import Planner

_SHOWN = 30
"""Rules for other names that are shown; a policy may have thousands."""

_PIDS = 8
"""Pids shown of processes that differ in nothing else."""


class Tried(NamedTuple):
    """One rule tried on the process: the condition that failed, "" if the rule matches."""

    rule: "Rule"
    unmet: str
    found: str


class Explanation(NamedTuple):
    """A process, the rules tried on it in order, and the decision. `never` is why no rule is tried."""

    process: "Process"
    tried: list[Tried]
    decision: Decision
    never: str

    @property
    def verdict(self) -> str:
        """The decision as a sentence."""
        return self.never or outlook(self.decision)


def run(options: "argparse.Namespace") -> int:
    """Explain each process of these pids and names."""
    preview = open_preview(options, load_policy(options))
    explanations = []
    missing = dict.fromkeys(options.process)
    running = set()
    # Decide on all processes in the order of a pass: a child's value depends on its parent's.
    for handle, judged in preview.processes():
        wanted = [one for one in options.process if _is_meant(handle, one)]
        running.add(printable(handle.comm))
        if wanted:
            with suppress(*GONE, HIDDEN):
                decision = None if judged is None else judged.decision
                explanations.append(_explain(handle, preview.planner, decision))
                for one in wanted:
                    missing.pop(one, None)
    if explanations and options.json:
        print_json([_document(explanation) for explanation in explanations])
    elif explanations:
        for alike in _alike(explanations):
            _print(alike)
    if missing:
        *others, last = (_no_process(one, running) for one in missing)
        for error in others:
            print(error.for_stderr, file=sys.stderr)
        raise last
    return 0


def _no_process(wanted: str, running: "Collection[str]") -> OomguardError:
    if wanted.isdecimal():
        return OomguardError(f"no process has the pid {wanted}", hint="see `ps -e` for those there are")
    near = difflib.get_close_matches(wanted[:80], running, n=1, cutoff=0.65)
    return OomguardError(
        f"no process is called {printable(wanted)}{f'; did you mean {near[0]}?' if near else ''}",
        hint="give a pid, or a name as `ps -e` shows it; names are compared in full",
    )


def _alike(explanations: list[Explanation]) -> list[list[Explanation]]:
    """Return the explanations; those that differ only in the pid are one group."""
    found: dict[object, list[Explanation]] = {}
    for one in explanations:
        process = one.process
        key = (process.comm, process.uid, system_unit(process.cgroup), process.oom_score_adj, one.verdict)
        tried = tuple((t.rule.number, t.unmet, t.found) for t in one.tried)
        found.setdefault((key, tried), []).append(one)
    return list(found.values())


def _is_meant(handle: "ProcessHandle", wanted: str) -> bool:
    if wanted.isdecimal():
        return handle.pid == int(wanted)
    raw = wanted.encode("utf-8", "surrogateescape")
    try:
        return raw == handle.comm or (
            len(handle.comm) >= COMM_LENGTH
            and raw.startswith(handle.comm)
            and raw == full_name(handle.comm, handle.arguments)
        )
    except (*GONE, HIDDEN, UnknownFactError):
        return False


def _explain(handle: "ProcessHandle", planner: "Planner", decision: Decision | None) -> Explanation:
    process = handle.snapshot()
    value = process.oom_score_adj
    if decision is None:
        decision = Decision(process.identity, process.comm, None, value, value, value)
    never = _why_never(handle, planner)
    tried = []
    for rule in () if never else planner.policy.rules:
        unmet, found = _try(rule, process, handle, planner, decision)
        tried.append(Tried(rule, unmet, found))
        if not unmet:
            break
    return Explanation(process, tried, decision, never)


def _why_never(handle: "ProcessHandle", planner: "Planner") -> str:
    """Return why no rule is tried on a process, or ""."""
    if handle.stat.is_kernel_thread:
        return "a kernel thread: the kernel never kills it, so no rule matches it"
    if handle.stat.is_zombie:
        return "a zombie: it has ended and uses no memory, so no rule matches it"
    if handle.pid == INIT_PID:
        return "the init process: the kernel never kills it, so no rule matches it"
    return "oomguard itself: no rule matches it" if planner.matching.itself.covers(handle) else ""


def _try(
    rule: "Rule", process: "Process", handle: "ProcessHandle", planner: "Planner", decision: Decision
) -> tuple[str, str]:
    """Return the first condition that failed, and the value found instead."""
    try:
        unmet: str = first_unmet(rule, handle, planner.matching.search_within(handle)) or ""
        if not unmet and rule.terms.scope == "main" and not planner.matching.is_topmost(rule, handle):
            unmet = "scope"
        if unmet:
            found = _found(unmet, process)
            return unmet, printable(found) if unmet == "name" else legible(found)
        refusal = planner.matching.refusal(rule, handle, own=decision.original)
    except UnknownFactError as error:
        return "unknown", f"cannot be read: {error}"
    return ("trust", refusal.reason) if refusal is not None else ("", "")


def _found(unmet: str, process: "Process") -> str | bytes:
    """Return the value on which a condition failed: a name, a cgroup too, may have any character."""
    match unmet:
        case "name":
            return full_name(process.comm, process.arguments)
        case "containers":
            return "in a container"
        case "user":
            return f"uid {process.uid}"
        case "unit":
            return system_unit(process.cgroup) or f"none ({process.cgroup})"
        case "user_unit":
            return user_unit(process.cgroup) or f"none ({process.cgroup})"
        case "cgroup":
            return process.cgroup
        case "cmdline":
            return b" ".join(process.arguments).decode("utf-8", "surrogateescape")[:200]
        case "exe":
            return "unreadable without CAP_SYS_PTRACE" if process.exe is None else process.exe
        case "scope":
            return f"an ancestor (parent {process.parent_pid}) matches as well"
        case _:
            return ""


def _document(explanation: Explanation) -> dict[str, Any]:
    process = explanation.process
    return {
        "pid": process.identity.pid,
        "start_time_ticks": process.identity.start_time_ticks,
        "comm": printable(process.comm),
        "arguments": [printable(argument) for argument in process.arguments],
        "uid": process.uid,
        "cgroup": printable(process.cgroup),
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
        "decision": decision_document(explanation.decision),
        "verdict": explanation.verdict,
    }


def _print(alike: "Sequence[Explanation]") -> None:
    """Print the explanation of one process, or of several that differ only in their pid."""
    from oomguard.report.plan_table import place
    from oomguard.report.tables import console, grid, print_text

    explanation = alike[0]
    process = explanation.process
    out = console()
    unit = legible(system_unit(process.cgroup))
    pids = [str(pid) for pid in sorted(one.process.identity.pid for one in alike)]
    if len(pids) > _PIDS:
        pids[_PIDS:] = [f"and {len(pids) - _PIDS} more"]
    out.print(
        f"{printable(process.comm)}[{', '.join(pids)}]  uid {process.uid}"
        f"{f', {unit}' if unit else ''}, oom_score_adj {process.oom_score_adj}",
        style="bold",
    )
    others = [t for t in explanation.tried if t.unmet == "name"]
    shown = (
        explanation.tried if len(others) <= _SHOWN else [t for t in explanation.tried if t.unmet != "name"]
    )
    if len(shown) < len(explanation.tried):
        out.print(f"  {counted(len(others), 'rule')} for other names, not shown")
    if shown:
        made = grid()
        for overflow in ("fold", "fold", "fold", "fold"):
            made.add_column(overflow=overflow)
        for tried in shown:
            answer, style = ("no", "") if tried.unmet else ("yes", "green")
            what = f"{tried.unmet}: {tried.found}" if tried.unmet else f"wants {tried.rule.terms.value}"
            number = f"  {tried.rule.number + 1}"
            made.add_row(number, f"{tried.rule.label} ({place(tried.rule)})", answer, what, style=style)
        out.print(made)
    print_text(out, f"→ {explanation.verdict}")
    decision = explanation.decision
    obstacle, paste = decision.obstacle, ""
    if obstacle is not None and obstacle.hint:
        print_text(out, obstacle.hint, indent=2)
        if obstacle.kind == "refused" and process.uid != 0:  # with the user, the rule is trusted
            paste = rule_for(process, decision.wanted)
    elif decision.rule is None and not explanation.never:
        paste = rule_for(process)
    if paste:
        what = "to match it, add this under `rules:`, with the value you want:"
        out.print(
            f"  {what}" if decision.rule is None else "  for this user's processes, add this above that rule:"
        )
        out.print(f"  {paste}", soft_wrap=True)
    out.print()
