"""Whether a policy fits this host: conflicting settings, refused changes, how much memory is protected."""

import os
import shlex
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cache
from typing import NamedTuple

from oomguard.core.cgroup import system_unit, user_unit
from oomguard.core.change import grouped
from oomguard.core.choices import ObstacleKind
from oomguard.core.decide import Decision
from oomguard.core.guard import unwise
from oomguard.core.match import first_unmet, is_glob
from oomguard.core.policy import Policy, SysctlSetting
from oomguard.core.process import UnknownFactError
from oomguard.core.rule import CONDITIONS, Rule
from oomguard.core.sysctl import KUBELET, KUBELETS, SYSCTLS
from oomguard.core.tally import Tally
from oomguard.core.text import counted, kib, legible, printable
from oomguard.foreign.oomd import monitored_units, rules_of
from oomguard.foreign.sysctl_d import ZERO_CHANGES_NOTHING, sysctls_said
from oomguard.foreign.text_file import SourcedValue, parse_number
from oomguard.foreign.tuned import active_profiles, tuned_sysctls
from oomguard.foreign.units import Units, host_units, manager_setting
from oomguard.kernel.capability import CAP_SYS_PTRACE, has, parse_effective
from oomguard.kernel.proc_files import GONE, HIDDEN
from oomguard.kernel.procfs import ProcessHandle, Procfs
from oomguard.kernel.sysctl_files import observe_memory, read_sysctl
from oomguard.kernel.usage import observe_candidate
from oomguard.oom.ranking import is_protected
from oomguard.policy.fault import Fault, excerpt
from oomguard.policy.lint.programs import INTERPRETERS, known
from oomguard.policy.scalars import quoted
from oomguard.reconcile.preview import Preview

_VENDOR = "/usr/lib/"
"""Where no administrator wrote a rule."""

_FALSE = ("0", "no", "n", "false", "f", "off")
"""How systemd reads them (systemd.syntax(7))."""

_MISSES_LIMIT = 1000
"""Processes that a rule misses, counted up to this number."""


class _Words(NamedTuple):
    """How an obstacle is reported: the code for a sysctl and what happens to it, the same for processes."""

    sysctl_code: str
    sysctl: str
    process_code: str
    process: str


_WORDS: dict[ObstacleKind, _Words] = {
    "refused": _Words("refused-now", "would be refused now", "refused-process", "refused for"),
    "denied": _Words(
        "denied-here", "would be denied now", "denied-here", "the kernel would deny the value for"
    ),
    "may-be-denied": _Words(
        "denied-here", "may be denied", "denied-here", "the kernel may deny the value for"
    ),
    "contended": _Words("contended-now", "is contended", "contended-now", "is contended for"),
    "unknown": _Words("unknown-process", "", "unknown-process", "cannot be judged for"),
}


class Seen:
    """What one pass over all processes found."""

    def __init__(self) -> None:
        self.tally = Tally()
        self.obstacles: dict[tuple[int, ObstacleKind], list[Decision]] = {}
        """By the number of the rule, and the kind of obstacle."""
        self.missed: dict[int, list[str]] = {}
        """By the number of a rule with their name: what processes that no rule matches have instead."""
        self.cgroups: dict[int, set[str]] = {}
        """By the number of the rule."""
        self.values: dict[tuple[str, str], tuple[int, int]] = {}
        """By unit (`_stopped`), the lowest and the highest value of its processes."""
        self.rivals: dict[str, str] = {}
        self.has_kubelet = False
        self.protected_kib = self.others_kib = 0


class Fit(NamedTuple):
    """What does not fit, which processes rules match, and a sentence on how much memory is protected."""

    faults: list[Fault]
    tally: Tally
    memory: str


def fit(preview: Preview, path: str, *, root: str = "/", options: str = "") -> Fit:
    """Check the policy of a preview against this host; `path` is the policy's file.

    `root` is the folder that holds the host's configuration. `options` are those that other verbs need for
    this policy and daemon.
    """
    policy, procfs = preview.planner.policy, preview.planner.procfs
    seen = _look(preview, path)
    units = host_units(root)
    interlock = list(_interlock(preview))
    faults = [
        *_missing(policy, procfs),
        *_other_sysctls(policy, seen, root),
        *interlock,
        *_unwise(policy, procfs, {fault.path for fault in interlock}),
        *_missed(policy, seen),
        *_units(policy, seen, units),
        *_stops(policy, seen, units, root),
        *_oomd(policy, seen, units, root),
        *_obstacles(policy, seen),
        *_unreadable(policy, procfs, units),
        *_linked(policy, root),
        *_rivals(seen, path),
        *_little_killable(seen, path, options),
    ]
    memory = f"Protected processes use {kib(seen.protected_kib)}, all others {kib(seen.others_kib)}."
    return Fit(faults, seen.tally, memory if seen.protected_kib else "")


def _look(preview: Preview, path: str) -> Seen:
    seen = Seen()
    for handle, decision in preview.processes():
        with suppress(*GONE, HIDDEN, UnknownFactError):
            preview.count(handle, decision, seen.tally)
            is_own = preview.planner.matching.itself.covers(handle)  # the daemon that is to use this policy
            _look_at(handle, decision, "" if is_own else _rival(handle, path), seen)
            if decision is None or decision.matched is None:
                _look_for_misses(handle, preview, seen)
    return seen


def _look_for_misses(handle: ProcessHandle, preview: Preview, seen: Seen) -> None:
    """Add what a process that no rule matches has instead of what the rules with its name require.

    Not its command line, nor an interpreter: rules select one of many programs by these.
    """
    matching = preview.planner.matching
    if known(printable(handle.comm), INTERPRETERS):
        return
    for rule in matching.matcher.candidates(handle.comm):
        if not rule.names or len(seen.missed.get(rule.number, ())) >= _MISSES_LIMIT:
            continue
        with suppress(UnknownFactError):
            key = first_unmet(rule, handle, matching.search)
            if key not in (None, "name", "cmdline"):
                who = f"{printable(handle.comm)}[{handle.pid}]"
                seen.missed.setdefault(rule.number, []).append(f"{who} {_instead(key, handle)}")


def _instead(key: str, handle: ProcessHandle) -> str:
    if key == "containers":
        return "is in a container"
    found = next(row for row in CONDITIONS if row.key == key).found(handle.snapshot())
    return f"has {legible(found)}" if key == "user" else f"has {key} {legible(found)}"


def _look_at(handle: ProcessHandle, decision: Decision | None, rival: str, seen: Seen) -> None:
    rule = None if decision is None else decision.matched
    if rule is not None:
        seen.cgroups.setdefault(rule.number, set()).add(handle.cgroup)
    if decision is not None and decision.rule is not None and decision.obstacle is not None:
        seen.obstacles.setdefault((decision.rule.number, decision.obstacle.kind), []).append(decision)
    if rival:
        seen.rivals.setdefault(rival, f"pid {handle.pid}")
    seen.has_kubelet |= printable(handle.comm) in KUBELETS
    candidate = observe_candidate(handle)
    if candidate is None:
        return
    value = candidate.oom_score_adj if decision is None else decision.result
    if (unit := _stopped(handle.cgroup)) is not None:
        low, high = seen.values.get(unit, (value, value))
        seen.values[unit] = min(low, value), max(high, value)
    if candidate.exemption:
        return
    if is_protected(candidate, value):
        seen.protected_kib += candidate.freed_kib
    else:
        seen.others_kib += candidate.freed_kib


def _rival(handle: ProcessHandle, path: str) -> str:
    """Return what a process is if it writes the same values and is not the daemon of this policy."""
    if handle.comm == b"ananicy-cpp":
        return "ananicy-cpp"
    try:
        if not handle.comm.startswith((b"python", b"oomguard")) or handle.uid != 0:
            return ""
        arguments = handle.arguments
    except UnknownFactError:
        return ""
    if any(os.path.basename(one) == b"ananicy" for one in arguments[1:2]):
        return "Ananicy"
    if b"oomguard.daemon" in arguments and arguments.index(b"oomguard.daemon") + 1 < len(arguments):
        other = arguments[arguments.index(b"oomguard.daemon") + 1]
        if os.path.realpath(other) != os.fsencode(os.path.realpath(path)):
            return f"another oomguard, with the policy {printable(other)}"
    return ""


def _missing(policy: Policy, procfs: Procfs) -> Iterator[Fault]:
    for setting in policy.sysctls:
        if read_sysctl(procfs, setting.name) is None:
            message = f"this kernel ({os.uname().release}) has no such sysctl"
            hint = "remove it from the policy of this host; the daemon skips it"
            yield Fault(setting.file, setting.line, 1, setting.name, message, hint, code="missing-sysctl")


def _other_sysctls(policy: Policy, seen: Seen, root: str) -> Iterator[Fault]:
    profile = active_profiles(root)
    elsewhere = (
        ("sysctl.d", sysctls_said(root), "sysctl-elsewhere"),
        (f"TuneD's profile {printable(profile)}", tuned_sysctls(profile, root), "tuned-profile"),
    )
    for setting in policy.sysctls:
        for who, files, code in elsewhere:
            said = _different(setting, files)
            if said:
                yield _at_setting(
                    setting,
                    code,
                    f"{who} {said}, the policy {setting.value}: at boot it has one value, then the other",
                    "remove one of them; the daemon corrects the value when something applies that file",
                )
        wanted = KUBELET.get(setting.name)
        if seen.has_kubelet and wanted is not None and setting.wanted(wanted) != wanted:
            yield _at_setting(
                setting,
                "kubelet-value",
                f"kubelet sets {wanted}, the policy {setting.value}; with protectKernelDefaults it fails",
                f"remove it, or write {wanted}",
            )


def _different(setting: SysctlSetting, files: Mapping[str, SourcedValue]) -> str:
    """Return what files set instead of the value of the policy, "" if nothing. A partner makes it 0."""
    said = files.get(setting.name)
    if said is not None and parse_number(said.value) != setting.wanted(parse_number(said.value) or 0):
        return f"sets {printable(said.value)[:40]} ({printable(said.source)})"
    partner = SYSCTLS[setting.name].partner
    said = files.get(partner)
    if (
        said is None
        or setting.value == 0
        or (parse_number(said.value) == 0 and partner in ZERO_CHANGES_NOTHING)
    ):
        return ""
    return (
        f"sets {partner} to {printable(said.value)[:40]} ({printable(said.source)}), which makes this one 0"
    )


def _interlock(preview: Preview) -> Iterator[Fault]:
    settings = {setting.name: setting for setting in preview.planner.policy.sysctls}
    for group in grouped(preview.sysctl_changes("policy")):
        obstacle, names = group[0].obstacle, [change.name for change in group if change.name in settings]
        if obstacle is not None and names:
            beside = f", with {', '.join(names[1:])}" if names[1:] else ""
            words = _WORDS[obstacle.kind]
            message = f"{words.sysctl}{beside}: {obstacle.reason}"
            yield _at_setting(settings[names[0]], words.sysctl_code, message, obstacle.hint)


def _unwise(policy: Policy, procfs: Procfs, reported: set[str]) -> Iterator[Fault]:
    memory = observe_memory(procfs)
    for setting in policy.sysctls:
        if memory is None or setting.name in reported or unwise(setting) is not None:
            continue  # unknown, or reported already, here or for every host
        if setting.said and setting.value == 0 and setting.kind == "exact" and setting.said[:2] != "0 ":
            message = f"on this host, {setting.said} comes to none"
            yield _at_setting(setting, "unwise-value", message, "write more, or 0")
        found = unwise(setting, memory)
        if found is not None:
            yield _at_setting(setting, "unwise-value", f"on this host, {found.reason}", found.hint)


def _missed(policy: Policy, seen: Seen) -> Iterator[Fault]:
    for number, found in sorted(seen.missed.items()):
        rule = policy.rules[number]
        if seen.tally.matched[number]:
            continue
        processes = f"any of {len(found)} processes" if found[1:] else "the process"
        is_contained = found[0].endswith("is in a container")
        yield _at_rule(
            policy,
            rule,
            "missed-process",
            f"does not match {processes} with its name: {found[0]}",
            "add containers: true" if is_contained else "change the condition, or remove it",
        )


def _oomd(policy: Policy, seen: Seen, units: Units, root: str) -> Iterator[Fault]:
    rules = cache(lambda unit: rules_of(unit, units, root))
    for number, cgroups in sorted(seen.cgroups.items()):
        rule = policy.rules[number]
        if not rule.terms.value.protects:
            continue
        monitored = (unit for cgroup in sorted(cgroups) for unit in monitored_units(cgroup))
        for unit, said in ((unit, rules(unit)) for unit in monitored):
            if said is not None:
                yield _at_rule(
                    policy,
                    rule,
                    "oomd-rules",
                    f"systemd-oomd kills in {legible(unit)} by its own rules, whatever the value: "
                    f"OOMRules={printable(said.value)[:60]} ({printable(said.source)})",
                    "remove them there, or set ManagedOOMPreference=avoid in the unit to protect",
                )
                break


def _units(policy: Policy, seen: Seen, units: Units) -> Iterator[Fault]:
    for number, cgroups in sorted(seen.cgroups.items()):
        rule = policy.rules[number]
        # user@1000.service sets its manager's value; a user's units set their own.
        for unit in sorted({"" if user_unit(cgroup) else system_unit(cgroup) for cgroup in cgroups}):
            said = units.setting(unit, "OOMScoreAdjust") if unit else None
            own = None if said is None else parse_number(said.value)
            if said is None or own is None:
                continue  # an empty value resets those before it, and systemd ignores what is no number
            wanted = rule.terms.value.wanted(own)
            if wanted == own:
                continue
            yield _at_rule(
                policy,
                rule,
                "unit-value",
                f"{legible(unit)} has OOMScoreAdjust={printable(said.value)[:20]} "
                f"({printable(said.source)}), the rule wants {wanted}: each start has one, then the other",
                f"remove one of them: run systemctl edit {shlex.quote(legible(unit))}, or change the rule",
            )
            break


def _stops(policy: Policy, seen: Seen, units: Units, root: str) -> Iterator[Fault]:
    """Yield the rules that choose a process of a unit that systemd stops as a whole (OOMPolicy=)."""
    if not os.path.exists(os.path.join(root, "sys/fs/cgroup/cgroup.controllers")):
        return  # with cgroups of version 1, systemd does not see a kill
    for number, cgroups in sorted(seen.cgroups.items()):
        rule = policy.rules[number]
        if rule.file.startswith(_VENDOR) or not (rule.terms.value.raises or rule.terms.scope == "main"):
            continue
        for unit in sorted(filter(None, map(_stopped, cgroups))):
            manager, name = unit
            low, high = seen.values.get(unit, (0, 0))
            if low == high or _continues(manager, name, units, root):
                continue
            hint = (
                f"systemctl edit {shlex.quote(legible(name))}, and below [Service] OOMPolicy=continue"
                if manager == "system"
                else "below [Manager] in /etc/systemd/user.conf, DefaultOOMPolicy=continue"
            )
            message = f"if the kernel kills one process of {legible(name)}, systemd stops all others in it"
            yield _at_rule(policy, rule, "unit-stops", message, hint)
            break


def _stopped(cgroup: str) -> tuple[str, str] | None:
    """Return the unit that systemd may stop after a kill in a cgroup, with its manager: system or user.

    Not the scopes of the system: sessions continue since systemd 253, and containers are delegated. Of users'
    units only their scopes, such as desktops' programs: what is set for others is in their folders.
    """
    if own := user_unit(cgroup):
        return ("user", own) if own.endswith(".scope") else None
    unit = system_unit(cgroup)
    return ("system", unit) if unit.endswith(".service") else None


def _continues(manager: str, unit: str, units: Units, root: str) -> bool:
    """Return whether the rest of a unit goes on after a kill. Of users' units, only the default is known."""
    if manager == "system":
        said = units.setting(unit, "OOMPolicy")
        if said is not None and said.value:
            return said.value == "continue"
        delegated = units.setting(unit, "Delegate")
        if delegated is not None and delegated.value.lower() not in ("", *_FALSE):
            return True
    return manager_setting(root, manager, "DefaultOOMPolicy") == "continue"


def _obstacles(policy: Policy, seen: Seen) -> Iterator[Fault]:
    for (number, kind), decisions in sorted(seen.obstacles.items()):
        first = decisions[0]
        assert first.obstacle is not None
        yield _at_rule(
            policy,
            policy.rules[number],
            _WORDS[kind].process_code,
            f"{_WORDS[kind].process} {counted(len(decisions), 'process', 'es')}, "
            f"{'such as ' * (len(decisions) > 1)}{printable(first.comm)}[{first.identity.pid}]: "
            f"{first.obstacle.reason}",
            first.obstacle.hint,
        )


def _unreadable(policy: Policy, procfs: Procfs, units: Units) -> Iterator[Fault]:
    rule = next((rule for rule in policy.rules if rule.terms.exes), None)
    if rule is None or _may_read_exe(procfs, units):
        return
    yield _at_rule(
        policy,
        rule,
        "exe-unreadable",
        "the daemon cannot read the executable of other users' processes: it lacks CAP_SYS_PTRACE",
        "systemctl edit oomguard, and below [Service] CapabilityBoundingSet=CAP_SYS_PTRACE; "
        "or use unit or user instead of exe",
    )


def _may_read_exe(procfs: Procfs, units: Units) -> bool:
    """Return whether the daemon's unit has the right; without a unit, whether this process has."""
    is_granted: bool | None = None
    for line in units.settings("oomguard.service", "CapabilityBoundingSet"):
        text = line.value.upper()
        is_named = "CAP_SYS_PTRACE" in text.removeprefix("~").split()
        if text.startswith("~"):  # all but these, or those so far but these
            is_granted = is_granted is not False and not is_named
        else:
            is_granted = is_named or (bool(is_granted) and bool(text))
    if is_granted is not None:
        return is_granted
    return has(parse_effective(procfs.read("self/status")), CAP_SYS_PTRACE)


def _linked(policy: Policy, root: str) -> Iterator[Fault]:
    """Yield the rules for executables of the host that all are links, or below one, such as /bin."""
    for rule in policy.rules:
        paths = rule.terms.exes
        if rule.terms.containers or any(map(is_glob, paths)):
            continue
        real = [_without_links(path, root) for path in paths]
        if paths and not set(real) & set(paths):
            message = (
                f"matches no process: {excerpt(paths[0])} leads through a link, which the kernel resolves"
            )
            yield _at_rule(policy, rule, "never-matches", message, f"write exe: {quoted(real[0])}")


def _without_links(path: str, root: str) -> str:
    """Return the path below `root` that a path leads to; a link out of there is not followed."""
    top = os.path.realpath(root).rstrip("/")
    real = os.path.realpath(top + path)
    return real.removeprefix(top) if real.startswith(f"{top}/") else path


def _rivals(seen: Seen, path: str) -> Iterator[Fault]:
    for who, where in sorted(seen.rivals.items()):
        message = (
            f"{who} ({where}) also writes oom_score_adj; if both set a process, they overwrite each other"
        )
        hint = "stop it, or remove the rules for processes that it manages"
        yield Fault(path, 0, 0, "", message, hint, "warning", "rival-daemon")


def _little_killable(seen: Seen, path: str, options: str) -> Iterator[Fault]:
    if seen.protected_kib > seen.others_kib:
        message = (
            f"protected processes use {kib(seen.protected_kib)}, all others {kib(seen.others_kib)}: "
            "when memory runs out, killing the others may not be enough"
        )
        hint = f"protect less; `oomguard rank{options}` shows the kill order"
        yield Fault(path, 0, 0, "", message, hint, "warning", "little-killable")


def _at_setting(setting: SysctlSetting, code: str, message: str, hint: str) -> Fault:
    return Fault(setting.file, setting.line, 1, setting.name, message, hint, "warning", code)


def _at_rule(policy: Policy, rule: Rule, code: str, message: str, hint: str) -> Fault:
    index = sum(1 for other in policy.rules[: rule.number] if other.file == rule.file)
    return Fault(rule.file, rule.line, 1, f"rules[{index}]", message, hint, "warning", code)
