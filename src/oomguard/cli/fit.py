"""Whether a policy fits this host: who wants other values, what would be refused, what is left to kill."""

import os
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from oomguard.cli.config_files import (
    sysctls_said,
    tuned_profile,
    tuned_sysctls,
    unit_setting,
    unit_settings,
)
from oomguard.core.cgroup import system_unit, user_unit
from oomguard.core.commit import kib
from oomguard.core.guard import unwise
from oomguard.core.plan import grouped
from oomguard.core.policy import Policy, counted
from oomguard.core.process import UnknownFactError
from oomguard.core.text import printable
from oomguard.kernel.capability import CAP_SYS_PTRACE, has, parse_effective
from oomguard.kernel.procfs import GONE, HIDDEN
from oomguard.kernel.sysctl import observe_memory, read_sysctl
from oomguard.kernel.usage import observe_candidate
from oomguard.policy.advice import KUBELET
from oomguard.policy.fault import Fault
from oomguard.reconcile.ledger import Ledger
from oomguard.reconcile.planner import Planner

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from oomguard.core.commit import Peak
    from oomguard.core.plan import SetOomScoreAdj
    from oomguard.core.policy import Rule, SysctlSetting
    from oomguard.kernel.procfs import ProcessHandle, Procfs
    from oomguard.reconcile.itself import Itself

ROOT = "/"
"""Where the configuration of this host begins; tests have another."""

_ALSO_WRITE = {b"ananicy": "Ananicy", b"ananicy-cpp": "ananicy-cpp"}
"""Daemons that write oom_score_adj by rules of their own, by process name."""


class Seen(NamedTuple):
    """What one look at all processes tells that matters here."""

    refused: "dict[int, list[SetOomScoreAdj]]"
    units: dict[int, set[str]]
    rivals: dict[str, str]
    has_kubelet: bool
    protected_kib: int
    killable_kib: int


def misfits(
    policy: Policy,
    procfs: "Procfs",
    path: str,
    itself: "Itself | None" = None,
    promised_peak: "Callable[[], Peak | None]" = lambda: None,
) -> "tuple[list[Fault], str]":
    """Return what does not fit, and a sentence on how much killing could still give back."""
    planner = Planner(policy, Ledger(), procfs, itself=itself, promised_peak=promised_peak)
    seen = _look(planner, path)
    faults = [
        *_missing(policy, procfs),
        *_other_sysctls(policy, seen),
        *_interlock(planner),
        *_unwise(policy, procfs),
        *_units(policy, seen),
        *_refused(policy, seen),
        *_unreadable(policy, procfs),
        *_rivals(seen, path),
        *_little_killable(seen, path),
    ]
    return faults, (
        f"protected: {kib(seen.protected_kib)}; killable: {kib(seen.killable_kib)}"
        if seen.protected_kib or seen.killable_kib
        else ""
    )


def _look(planner: Planner, path: str) -> Seen:
    seen = Seen({}, {}, {}, has_kubelet=False, protected_kib=0, killable_kib=0)
    for handle in planner.procfs.processes():
        with suppress(*GONE, HIDDEN):
            seen = _look_at(handle, planner, path, seen)
    return seen


def _look_at(handle: "ProcessHandle", planner: Planner, path: str, seen: Seen) -> Seen:
    change = planner.process_change(handle, "policy")
    number = planner.rule_of.get(handle.pid)
    if number is not None:
        # The value of user@1000.service is its manager's: the units of a user have their own.
        unit = "" if user_unit(handle.cgroup) else system_unit(handle.cgroup)
        seen.units.setdefault(number, set()).add(unit)
        if change is not None and change.refusal is not None:
            seen.refused.setdefault(number, []).append(change)
    rival = _rival(handle, path)
    if rival:
        seen.rivals.setdefault(rival, f"pid {handle.pid}")
    if handle.comm == b"kubelet":
        seen = seen._replace(has_kubelet=True)
    candidate = observe_candidate(handle)
    if candidate is None:
        return seen
    value = change.after if change is not None and change.refusal is None else candidate.oom_score_adj
    if value < 0 or handle.pid == 1:
        return seen._replace(protected_kib=seen.protected_kib + candidate.freed_kib)
    return seen._replace(killable_kib=seen.killable_kib + candidate.freed_kib)


def _rival(handle: "ProcessHandle", path: str) -> str:
    """Return what a process is if it writes the same values and is not the daemon of this policy."""
    if handle.comm in _ALSO_WRITE:
        return _ALSO_WRITE[handle.comm]
    if handle.uid != 0 or not handle.comm.startswith((b"python", b"oomguard")):
        return ""
    try:
        arguments = handle.arguments
    except UnknownFactError:
        return ""
    if b"oomguard.daemon" in arguments and arguments.index(b"oomguard.daemon") + 1 < len(arguments):
        other = arguments[arguments.index(b"oomguard.daemon") + 1]
        if os.path.realpath(other) != os.fsencode(os.path.realpath(path)):
            return f"another oomguard, with the policy {printable(other)}"
    return ""


def _missing(policy: Policy, procfs: "Procfs") -> "Iterator[Fault]":
    for setting in policy.sysctls:
        if read_sysctl(procfs, setting.name) is None:
            yield Fault(
                setting.file,
                setting.line,
                1,
                setting.name,
                f"this kernel ({os.uname().release}) has no such sysctl",
                "remove it from the policy of this host; the daemon skips it",
                code="missing-sysctl",
            )


def _other_sysctls(policy: Policy, seen: Seen) -> "Iterator[Fault]":
    files = sysctls_said(ROOT)
    profile = tuned_profile(ROOT)
    tuned = tuned_sysctls(profile, ROOT)
    for setting in policy.sysctls:
        for who, said, code in (
            ("sysctl.d", files.get(setting.name), "sysctl-elsewhere"),
            (f"TuneD's profile {printable(profile)}", tuned.get(setting.name), "tuned-profile"),
        ):
            if said is not None and not _is_number(said.value, setting.value):
                yield _at_setting(
                    setting,
                    code,
                    f"{who} sets {printable(said.value)[:40]} ({printable(said.source)}), "
                    f"the policy {setting.value}: at boot it has one value, then the other",
                    "remove one of them; the daemon corrects the value when something applies that file",
                )
        wanted = KUBELET.get(setting.name)
        if seen.has_kubelet and wanted is not None and wanted != setting.value:
            yield _at_setting(
                setting,
                "kubelet-value",
                f"kubelet sets {wanted}, the policy {setting.value}; with protectKernelDefaults it fails",
                f"remove it, or write {wanted}",
            )


def _interlock(planner: Planner) -> "Iterator[Fault]":
    settings = {setting.name: setting for setting in planner.policy.sysctls}
    for group in grouped(planner.sysctl_changes("policy")):
        refusal, names = group[0].refusal, [change.name for change in group if change.name in settings]
        if refusal is not None and names:
            beside = f", with {', '.join(names[1:])}" if names[1:] else ""
            message = f"would be refused now{beside}: {refusal.reason}"
            yield _at_setting(settings[names[0]], "refused-now", message, refusal.hint)


def _unwise(policy: Policy, procfs: "Procfs") -> "Iterator[Fault]":
    memory = observe_memory(procfs)
    for setting in policy.sysctls:
        if memory is None or unwise(setting.name, setting.value) is not None:
            continue  # not known, or said of any host
        found = unwise(setting.name, setting.value, memory)
        if found is not None:
            yield _at_setting(setting, "unwise-value", f"on this host, {found.reason}", found.hint)


def _units(policy: Policy, seen: Seen) -> "Iterator[Fault]":
    for number, units in sorted(seen.units.items()):
        rule = policy.rules[number]
        for unit in sorted(units):
            said = unit_setting(unit, "OOMScoreAdjust", ROOT) if unit else None
            wanted = None if said is None else rule.terms.value.wanted(_number(said.value))
            if said is None or wanted is None or _is_number(said.value, wanted):
                continue
            yield _at_rule(
                policy,
                rule,
                "unit-value",
                f"{printable(unit)} has OOMScoreAdjust={printable(said.value)[:20]} "
                f"({printable(said.source)}), the rule wants {wanted}: each start has one, then the other",
                f"remove one of them: run systemctl edit {printable(unit)}, or change the rule",
            )
            break


def _refused(policy: Policy, seen: Seen) -> "Iterator[Fault]":
    for number, changes in sorted(seen.refused.items()):
        first = changes[0]
        assert first.refusal is not None
        yield _at_rule(
            policy,
            policy.rules[number],
            "refused-process",
            f"would not protect {counted(len(changes), 'matching process', 'es')}, such as "
            f"{printable(first.comm)}[{first.identity.pid}]: {first.refusal.reason}",
            first.refusal.hint,
        )


def _unreadable(policy: Policy, procfs: "Procfs") -> "Iterator[Fault]":
    rule = next((rule for rule in policy.rules if rule.terms.exes), None)
    if rule is None or _may_read_exe(procfs):
        return
    yield _at_rule(
        policy,
        rule,
        "exe-unreadable",
        "the daemon cannot read the executable of other users' processes: it lacks CAP_SYS_PTRACE",
        "systemctl edit oomguard, and below [Service] CapabilityBoundingSet=CAP_SYS_PTRACE; "
        "or use unit or user instead of exe",
    )


def _may_read_exe(procfs: "Procfs") -> bool:
    """Tell whether the daemon's unit has the right; where there is no unit, whether we have."""
    bounds: set[str] = set()
    lines = unit_settings("oomguard.service", "CapabilityBoundingSet", ROOT)
    for line in lines:
        words = line.value.split()
        bounds = bounds.union(words) if words else set()
    if lines:
        return "CAP_SYS_PTRACE" in bounds
    try:
        return has(parse_effective(procfs.read("self/status")), CAP_SYS_PTRACE)
    except FileNotFoundError:
        return True  # a tree made for tests


def _rivals(seen: Seen, path: str) -> "Iterator[Fault]":
    for who, where in sorted(seen.rivals.items()):
        yield Fault(
            path,
            0,
            0,
            "",
            f"{who} ({where}) also writes oom_score_adj; if both set a process, they overwrite each other",
            "stop it, or remove the rules for processes that it manages",
            severity="warning",
            code="rival-daemon",
        )


def _little_killable(seen: Seen, path: str) -> "Iterator[Fault]":
    if seen.protected_kib > seen.killable_kib:
        yield Fault(
            path,
            0,
            0,
            "",
            f"protected processes use {kib(seen.protected_kib)}, all others {kib(seen.killable_kib)}: "
            "when memory runs out, killing the others may not be enough",
            "protect less; `oomguard rank` shows the kill order",
            severity="warning",
            code="little-killable",
        )


def _at_setting(setting: "SysctlSetting", code: str, message: str, hint: str) -> Fault:
    return Fault(setting.file, setting.line, 1, setting.name, message, hint, "warning", code)


def _at_rule(policy: Policy, rule: "Rule", code: str, message: str, hint: str) -> Fault:
    index = sum(1 for other in policy.rules[: rule.number] if other.file == rule.file)
    return Fault(rule.file, rule.line, 1, f"rules[{index}]", message, hint, "warning", code)


def _is_number(text: str, wanted: int) -> bool:
    try:
        return int(text.split()[0]) == wanted
    except (ValueError, IndexError):
        return False


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        return 0
