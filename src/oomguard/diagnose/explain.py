"""Tries every rule on a process: which condition failed, on which value, and which rule the policy lacks."""

import difflib
import shlex
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress

from oomguard.core.decide import Decision, Obstacle
from oomguard.core.errors import OomguardError
from oomguard.core.match import first_unmet
from oomguard.core.process import COMM_LENGTH, INIT_PID, Facts, Process, UnknownFactError, full_name
from oomguard.core.rule import CONDITIONS, Rule, Value
from oomguard.core.text import counted, legible, printable
from oomguard.core.trust import trust_refusal
from oomguard.kernel.proc_files import GONE, HIDDEN
from oomguard.kernel.procfs import ProcessHandle, Procfs
from oomguard.policy.lint.lookalike import in_brackets, lookalike
from oomguard.policy.regex_to_glob import literal
from oomguard.policy.scalars import quoted
from oomguard.policy.users import user_name
from oomguard.reconcile.matching import is_being_started
from oomguard.reconcile.planner import Planner
from oomguard.reconcile.preview import Preview
from oomguard.report.explanation import Explanation, Tried

_PIDS = 8
"""Pids shown of processes that cannot be read."""

_EXAMPLE = Value("exact", 300)
"""The value of a rule that is suggested."""


def explain(preview: Preview, asked: Sequence[str]) -> tuple[list[Explanation], list[OomguardError]]:
    """Return the explanation of each process of these pids and names, and an error for each without one."""
    explanations = []
    missing = dict.fromkeys(asked)
    unread: dict[str, list[int]] = {}
    running = set()
    # Decide on all processes in the order of a pass: a child's value depends on its parent's.
    for handle, decision in preview.processes():
        wanted = [one for one in asked if _is_meant(handle, one)]
        running.add(printable(handle.comm))
        if wanted:
            with suppress(*GONE, HIDDEN):
                try:
                    explanations.append(_explain(handle, preview.planner, decision))
                except UnknownFactError as error:
                    unread.setdefault(str(error), []).append(handle.pid)
                for one in wanted:
                    missing.pop(one, None)
    errors = [_unread(pids, reason) for reason, pids in unread.items()]
    procfs = preview.planner.procfs
    return explanations, [*errors, *(_no_process(one, running, procfs) for one in missing)]


def renamed(explanations: Sequence[Explanation], asked: Sequence[str]) -> Iterator[str]:
    """Yield a sentence for each process asked for as `NAME[PID]` that has another name now."""
    comms = {str(one.process.identity.pid): one.process.comm for one in explanations}
    for one in asked:
        name, _, pid = one.removesuffix("]").rpartition("[")
        comm = comms.get(pid) if name and one.endswith("]") else None
        raw = name.encode("utf-8", "surrogateescape")
        if comm is not None and name != printable(comm) and raw[:COMM_LENGTH] != comm:
            yield f"pid {pid} is called {printable(comm)} now, not {legible(name)}"


def _unread(pids: list[int], reason: str) -> OomguardError:
    shown = ", ".join(map(str, pids[:_PIDS])) + (", …" if len(pids) > _PIDS else "")
    return OomguardError(
        f"{counted(len(pids), 'process', 'es')} cannot be explained ({shown}): {reason}",
        hint="give fewer pids" if len(pids) > 1 else "try again when it is less busy",
    )


def _no_process(wanted: str, running: Collection[str], procfs: Procfs) -> OomguardError:
    if wanted.isdecimal():
        process = procfs.process_of_thread(wanted)
        hint = f"it is a thread of the process {process}" if process else "`ps -e` lists all processes"
        return OomguardError(f"no process has the pid {wanted}", hint=hint)
    named, _, pid = wanted.rpartition("[")
    if named and pid.endswith("]") and (pid := pid[:-1]).isdecimal():
        return OomguardError(
            f"no process has the pid {pid}: {printable(wanted)} has ended",
            hint=f"others of its name: oomguard explain {shlex.quote(printable(named))}",
        )
    folded = {one.casefold(): one for one in running}
    name = wanted.rpartition("/")[2][:80].casefold()
    near = difflib.get_close_matches(name, folded, n=1, cutoff=0.65)
    return OomguardError(
        f"no process is called {printable(wanted)}{f'; did you mean {folded[near[0]]}?' if near else ''}",
        hint="give a pid, or a name as `ps -e` shows it; names are compared in full",
    )


def _is_meant(handle: ProcessHandle, wanted: str) -> bool:
    if wanted.isdecimal():
        return wanted == str(handle.pid)
    if wanted.endswith(f"[{handle.pid}]"):  # as the journal names it, whatever it calls itself now
        return True
    raw = wanted.encode("utf-8", "surrogateescape")
    try:
        if wanted == printable(handle.comm):  # as every table shows it
            return True
        return raw == handle.comm or (
            len(handle.comm) >= COMM_LENGTH
            and raw.startswith(handle.comm)
            and raw == full_name(handle.comm, handle.arguments)
        )
    except (*GONE, HIDDEN, UnknownFactError):
        return False


def _explain(handle: ProcessHandle, planner: Planner, decision: Decision | None) -> Explanation:
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
    unknown = next((one.found for one in tried if one.unmet == "unknown"), "")
    if unknown and decision.rule is None and decision.obstacle is None and decision.wanted == value:
        decision = decision._replace(obstacle=Obstacle("unknown", unknown))
    paste = "" if any(one.unmet == "scope" for one in tried) else _paste(process, decision, never)
    return Explanation(process, user_name(process.uid), tried, decision, never, paste)


def _paste(process: Process, decision: Decision, never: str) -> str:
    """Return the rule that a policy lacks for the process, "" if it needs none."""
    obstacle = decision.obstacle
    if obstacle is not None and obstacle.kind == "unknown":
        return ""
    if obstacle is None or not obstacle.hint:
        return rule_for(process) if decision.rule is None and not never else ""
    if obstacle.kind != "refused" or decision.rule is None or process.uid == 0:
        return ""
    return rule_for(process, decision.rule.terms.value)  # with the user, the rule is trusted


def _why_never(handle: ProcessHandle, planner: Planner) -> str:
    """Return why no rule is tried on a process, or ""."""
    if handle.stat.is_kernel_thread:
        return "a kernel thread: the kernel never kills it, so no rule matches it"
    if handle.stat.is_zombie:
        return "a zombie: it has ended and uses no memory, so no rule matches it"
    if handle.pid == INIT_PID:
        return "the init process: the kernel never kills it, so no rule matches it"
    if is_being_started(handle):
        return "systemd is about to run a service here: no rule matches it yet"
    return "oomguard itself: no rule matches it" if planner.matching.itself.covers(handle) else ""


def _try(
    rule: Rule, process: Process, handle: ProcessHandle, planner: Planner, decision: Decision
) -> tuple[str, str]:
    """Return the first condition that failed, and the value found instead."""
    try:
        unmet: str = first_unmet(rule, handle, planner.matching.search) or ""
        if not unmet and rule.terms.scope == "main" and not planner.matching.is_topmost(rule, handle):
            unmet = "scope"
        if unmet:
            found = _found(unmet, process)
            return unmet, printable(found) if unmet == "name" else legible(found)
        first = planner.policy.first_person_uid
        refusal = trust_refusal(rule, handle, own=decision.own, first_person_uid=first)
    except UnknownFactError as error:
        return "unknown", str(error)
    return ("trust", refusal.reason) if refusal is not None else ("", "")


def _found(unmet: str, process: Process) -> str | bytes:
    """Return the value on which a condition failed; names and cgroups may contain any character."""
    if unmet == "containers":
        return "in a container" if process.in_container else "perhaps in a container"
    if unmet == "scope":
        return f"an ancestor (parent {process.parent_pid}) matches as well"
    return next(row for row in CONDITIONS if row.key == unmet).found(process)


def rule_for(process: Facts, value: Value = _EXAMPLE) -> str:
    """Return one rule as YAML that matches the process by its name and user, "" if its name is empty."""
    if not process.comm:
        return ""
    conditions = [f"name: {quoted(name_pattern(_whole_name(process)))}"]
    if process.uid != 0:
        conditions.append(f"user: {process.uid}")
    if process.in_container:
        conditions.append("containers: true")
    written = f"{{{value.kind}: {value.number}}}" if value.kind in ("at_most", "at_least") else value
    return f"- {{{', '.join(conditions)}, oom_score_adj: {written}}}"


def name_pattern(name: bytes) -> str:
    """Return a `name` for a policy that matches a process name, and nothing else if that is UTF-8.

    A byte that is not UTF-8 becomes a `?`.
    """
    text = name.decode("utf-8", "surrogateescape")
    start, end = len(text) - len(text.lstrip()), len(text.rstrip())
    pattern = (
        "".join(f"[{one}]" for one in text[:start])
        + "".join("?" if "\udc80" <= one <= "\udcff" else literal(one) for one in text[start:end])
        + "".join(f"[{one}]" for one in text[max(start, end) :])
    )
    return in_brackets(pattern) if lookalike(pattern) else pattern


def _whole_name(process: Facts) -> bytes:
    """Return the full name, if the command line shows what the kernel cut off."""
    comm = process.comm
    if len(comm) < COMM_LENGTH:
        return comm
    try:
        whole = full_name(comm, process.arguments)
    except UnknownFactError:
        return comm
    return whole if len(whole) < 64 and whole.isascii() and b" " not in whole else comm
