"""Policies that are valid and yet probably not what their author wants.

Each check is a function in `CHECKS` that yields warnings; their codes never change, and docs/lint.md has all.
"""

import warnings
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from oomguard.core.guard import unwise
from oomguard.core.policy import OOM_SCORE_ADJ_MIN, counted
from oomguard.core.process import COMM_LENGTH
from oomguard.policy.backtracking import TRIAL_LENGTH, NoTimeError, slow_text
from oomguard.policy.fault import Fault, excerpt
from oomguard.policy.nodes import place
from oomguard.policy.programs import HAND_ON, INTERPRETERS, USERS_PROGRAMS, known
from oomguard.policy.shadow import shadows
from oomguard.policy.unmatchable import unmatchable

if TYPE_CHECKING:
    import re
    from collections.abc import Callable, Iterator

    from oomguard.core.policy import Policy, Rule, Terms
    from oomguard.policy.compile import Document, Users

    Trial = Callable[[re.Pattern[str], str], bool]


class Subject(NamedTuple):
    """What a check looks at. `users` are this host's, None for a policy of another one.

    `trial` tells whether searching a text takes a pattern too long, None where there is no time to try.
    """

    policy: "Policy"
    documents: "tuple[Document, ...]"
    users: "Users | None"
    trial: "Trial | None" = None

    def rules(self) -> "Iterator[tuple[Document, int, Rule]]":
        """Yield each rule with its file and its place in there."""
        compiled = iter(self.policy.rules)
        for document in self.documents:
            for index in range(len(document.said.rules or ())):
                yield document, index, next(compiled)

    def setting(self, name: str) -> int | None:
        """Return what the policy sets a sysctl to, None where it does not."""
        return next((one.value for one in self.policy.sysctls if one.name == name), None)


def lint(subject: Subject) -> list[Fault]:
    """Return everything that is probably not meant, in no particular order."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # patterns were compiled before: re has said what it had to say
        return [found for check in CHECKS for found in check(subject)]


def _shadowed_rule(subject: Subject) -> "Iterator[Fault]":
    earlier = shadows(subject.policy.rules)
    for document, index, rule in subject.rules():
        first = earlier.get(rule.number)
        if first is not None:
            yield _warning(
                document,
                ("rules", index),
                "shadowed-rule",
                f"never takes effect: whatever it matches, the rule at {excerpt(first.source)} "
                f"({excerpt(first.label)}) matches first",
                "remove one of the two, or move this one above the other",
            )


def _never_matches(subject: Subject) -> "Iterator[Fault]":
    for document, index, rule in subject.rules():
        found = unmatchable(rule)
        if found is not None:
            yield _warning(
                document,
                ("rules", index, found.key),
                "never-matches",
                f"matches no process: {found.why}",
                found.hint,
            )


def _interpreter(subject: Subject) -> "Iterator[Fault]":
    for document, index, rule in subject.rules():
        program = _named(rule, INTERPRETERS)
        if program and _only_names(rule.terms) and not rule.terms.users and rule.terms.value.kind != "keep":
            yield _warning(
                document,
                ("rules", index, "name"),
                "interpreter-name",
                f"{program} is what many programs run in: the rule holds for all of them",
                "name the script, which is the process name of one that starts with #!, "
                "or add unit, user or cmdline",
            )


def _users_program(subject: Subject) -> "Iterator[Fault]":
    for document, index, rule in subject.rules():
        terms = rule.terms
        program = _named(rule, USERS_PROGRAMS)
        if program and _protects(terms) and terms.trust == "verified" and not _vouches(terms):
            yield _warning(
                document,
                ("rules", index, "name"),
                "unvouched",
                f"{program} is a program that users run, and protection of their processes by name alone is "
                "refused: any program may take the name",
                "add user, unit or exe",
            )


def _handed_on(subject: Subject) -> "Iterator[Fault]":
    for document, index, rule in subject.rules():
        program = _named(rule, HAND_ON)
        if program and rule.terms.value.kind != "keep":
            yield _warning(
                document,
                ("rules", index, "name"),
                "handed-on",
                f"every shell would get this, too: {program} gives each session what it started with itself",
                "write oom_score_adj: keep; its listener gives itself -1000",
            )


def _named(rule: "Rule", programs: frozenset[str]) -> str:
    """Return which of `programs` a rule names, "" if none."""
    return next(
        (found for name in rule.names if (found := known(name.decode("utf-8", "surrogateescape"), programs))),
        "",
    )


def _protects(terms: "Terms") -> bool:
    return terms.value.kind in {"exact", "at_most"} and terms.value.number < 0


def _vouches(terms: "Terms") -> bool:
    """Tell whether a rule has a condition that a user cannot meet at will (core/trust.py)."""
    return bool(terms.users or terms.units or terms.exes or terms.cgroups)


def _only_names(terms: "Terms") -> bool:
    return not (terms.units or terms.user_units or terms.cgroups or terms.cmdlines or terms.exes)


def _names_collide(subject: Subject) -> "Iterator[Fault]":
    """Find names that the kernel cuts to the same 15 bytes, in rules that give different values."""
    seen: dict[bytes, tuple[bytes, Rule]] = {}
    for document, index, rule in subject.rules():
        if not _only_names(rule.terms):
            continue
        for name in rule.names:
            if len(name) < COMM_LENGTH or any(wild in name for wild in b"*?["):
                continue
            other, first = seen.setdefault(name[:COMM_LENGTH], (name, rule))
            same = other == name or first.terms == rule.terms or first.terms.value == rule.terms.value
            if same or len(name) == COMM_LENGTH:  # the longer one comes first: each gets its own
                continue
            cut = excerpt(name[:COMM_LENGTH].decode("utf-8", "replace"))
            where = f"{excerpt(other.decode('utf-8', 'replace'))} at {excerpt(first.source)}"
            yield _warning(
                document,
                ("rules", index, "name"),
                "names-collide",
                f"the kernel keeps {cut} of this name, and that is all of {where}, which matches first"
                if len(other) == COMM_LENGTH
                else f"the kernel keeps {cut} of this name and of {where}, which has another value: only "
                "the command line tells them apart, and a process may rewrite it",
                "move the longer name up"
                if len(other) == COMM_LENGTH
                else "add unit, user or exe to tell them apart for certain",
            )
            break


def _slow_pattern(subject: Subject) -> "Iterator[Fault]":
    if subject.trial is None:
        return
    tried: dict[str, bool] = {}
    untried: dict[str, tuple[Document, tuple[int | str, ...]]] = {}
    for document, index, rule in subject.rules():
        for position, pattern in enumerate(rule.terms.cmdlines):
            if pattern not in tried and not untried:
                with suppress(NoTimeError):
                    tried[pattern] = slow_text(pattern, subject.trial) is not None
            if pattern not in tried:
                untried.setdefault(pattern, (document, ("rules", index, "cmdline", position)))
            elif tried[pattern]:
                yield _warning(
                    document,
                    ("rules", index, "cmdline", position),
                    "slow-pattern",
                    f"some command line of {TRIAL_LENGTH} characters takes this pattern more than 20 ms, "
                    "after which its process matches no rule",
                    "do not repeat what repeats: for (a+)+ write a+, for (.*x)* write .*x",
                )
    if untried:
        document, loc = next(iter(untried.values()))
        yield _warning(
            document,
            loc,
            "slow-pattern",
            f"{counted(len(untried), 'pattern')} from here on not tried: there is no time left for it",
            "fix the slow patterns first, then check again",
        )


def _immune(subject: Subject) -> "Iterator[Fault]":
    for document, index, rule in subject.rules():
        value = rule.terms.value
        if value.kind in {"exact", "at_most"} and value.number == OOM_SCORE_ADJ_MIN:
            yield _warning(
                document,
                ("rules", index, "oom_score_adj"),
                "immune",
                "-1000 also forbids killing it when its own cgroup is out of memory: if it leaks there, "
                "the cgroup stays out of memory for ever",
                "-999 protects it as well from everything else",
            )


def _trust_name(subject: Subject) -> "Iterator[Fault]":
    for document, index, rule in subject.rules():
        terms = rule.terms
        if terms.trust == "name" and not (terms.users or terms.units or terms.exes or terms.cgroups):
            yield _warning(
                document,
                ("rules", index, "trust"),
                "trust-name",
                "any user may give a program this name and be protected",
                "a condition on user, unit, exe or cgroup says better who is meant",
            )


def _loose_cgroup(subject: Subject) -> "Iterator[Fault]":
    for document, index, rule in subject.rules():
        terms = rule.terms
        if not _protects(terms) or terms.users or terms.units or terms.exes:
            continue
        for position, pattern in enumerate(terms.cgroups):
            if pattern.startswith("*"):
                yield _warning(
                    document,
                    ("rules", index, "cgroup", position),
                    "loose-cgroup",
                    "this pattern also matches below cgroups that users own and name, and protection is "
                    "refused there",
                    "begin the path with /, as /system.slice/postgresql*, or use unit",
                )


def _inherited_protection(subject: Subject) -> "Iterator[Fault]":
    for document, index, rule in subject.rules():
        value = rule.terms.value
        if rule.terms.children == "inherit" and value.kind in {"exact", "at_most"} and value.number < 0:
            yield _warning(
                document,
                ("rules", index, "children"),
                "inherited-protection",
                "whatever these processes start is protected like them",
                "leave children out, and name the programs that need protection",
            )


def _unknown_user(subject: Subject) -> "Iterator[Fault]":
    if subject.users is None:
        return
    for document, index, rule in subject.rules():
        for position, user in enumerate(rule.terms.users):
            if not user.isdecimal() and subject.users.uid(user) is None:
                yield _warning(
                    document,
                    ("rules", index, "user", position),
                    "unknown-user",
                    f"this host has no user {excerpt(user)}",
                    "the rule matches nothing of that user until there is one and the policy is reloaded",
                )


def _panic_hangs(subject: Subject) -> "Iterator[Fault]":
    for name, when in (("vm.panic_on_oom", "memory runs out"), ("kernel.panic_on_oops", "it meets a bug")):
        if subject.setting(name) and not subject.setting("kernel.panic"):
            yield _sysctl_warning(
                subject,
                name,
                "panic-hangs",
                f"the host panics when {when}, and then hangs for ever unless kernel.panic is set",
                "add kernel: {panic: 10} to reboot after 10 seconds",
            )


def _limit_without_mode(subject: Subject) -> "Iterator[Fault]":
    if subject.setting("vm.overcommit_memory") == 2:
        return
    for name in ("vm.overcommit_ratio", "vm.overcommit_kbytes"):
        if subject.setting(name) is not None:
            yield _sysctl_warning(
                subject,
                name,
                "limit-without-mode",
                "has no effect unless vm.overcommit_memory is 2, which this policy does not set",
                "add overcommit_memory: 2, or remove this",
            )


def _ratio_over_100(subject: Subject) -> "Iterator[Fault]":
    ratio = subject.setting("vm.overcommit_ratio")
    if ratio is not None and ratio > 100:
        yield _sysctl_warning(
            subject,
            "vm.overcommit_ratio",
            "ratio-over-100",
            f"promises {ratio} % of RAM: more than there is",
            "strict accounting prevents the OOM killer only up to 100; swap comes on top by itself",
        )


def _unwise_value(subject: Subject) -> "Iterator[Fault]":
    for setting in subject.policy.sysctls:
        found = unwise(setting.name, setting.value)
        if found is not None:
            yield _sysctl_warning(subject, setting.name, "unwise-value", *found)


CHECKS: "tuple[Callable[[Subject], Iterator[Fault]], ...]" = (
    _shadowed_rule,
    _never_matches,
    _interpreter,
    _users_program,
    _handed_on,
    _names_collide,
    _slow_pattern,
    _immune,
    _trust_name,
    _loose_cgroup,
    _inherited_protection,
    _unknown_user,
    _panic_hangs,
    _limit_without_mode,
    _ratio_over_100,
    _unwise_value,
)


def _warning(document: "Document", loc: tuple[int | str, ...], code: str, message: str, hint: str) -> Fault:
    here = place(document.root, loc)
    return Fault(document.file, here.line, here.column, here.path, message, hint, "warning", code)


def _sysctl_warning(subject: Subject, name: str, code: str, message: str, hint: str) -> Fault:
    setting = next(one for one in subject.policy.sysctls if one.name == name)
    document = next(one for one in subject.documents if one.file == setting.file)
    section, _, knob = name.partition(".")
    return _warning(document, (section, knob), code, message, hint)
