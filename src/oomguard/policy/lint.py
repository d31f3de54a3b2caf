"""Policies that are valid and yet probably not what their author wants.

Each check is a function in `CHECKS` that yields warnings; their codes never change.
"""

from typing import TYPE_CHECKING, NamedTuple

from oomguard.core.policy import OOM_SCORE_ADJ_MIN
from oomguard.policy.fault import Fault, excerpt
from oomguard.policy.nodes import place
from oomguard.policy.shadow import shadows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from oomguard.core.policy import Policy, Rule
    from oomguard.policy.compile import Document, Users


class Subject(NamedTuple):
    """What a check looks at. `users` are this host's, None for a policy of another one."""

    policy: "Policy"
    documents: "tuple[Document, ...]"
    users: "Users | None"

    def rules(self) -> "Iterator[tuple[Document, int, Rule]]":
        """Yield each rule with its file and its place in there."""
        compiled = iter(self.policy.rules)
        for document in self.documents:
            for index in range(len(document.said.rules or ())):
                yield document, index, next(compiled)

    def setting(self, name: str) -> int | None:
        """Return what the policy sets a sysctl to, None where it does not."""
        return next((one.value for one in self.policy.sysctls if one.name == name), None)


def lint(subject: Subject) -> "Iterator[Fault]":
    """Yield everything that is probably not meant, in no particular order."""
    for check in CHECKS:
        yield from check(subject)


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
    if subject.setting("vm.panic_on_oom") and not subject.setting("kernel.panic"):
        yield _sysctl_warning(
            subject,
            "vm.panic_on_oom",
            "panic-hangs",
            "the host panics when memory runs out, and then hangs for ever unless kernel.panic is set",
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


CHECKS: "tuple[Callable[[Subject], Iterator[Fault]], ...]" = (
    _shadowed_rule,
    _immune,
    _trust_name,
    _inherited_protection,
    _unknown_user,
    _panic_hangs,
    _limit_without_mode,
    _ratio_over_100,
)


def _warning(document: "Document", loc: tuple[int | str, ...], code: str, message: str, hint: str) -> Fault:
    here = place(document.root, loc)
    return Fault(document.file, here.line, here.column, here.path, message, hint, "warning", code)


def _sysctl_warning(subject: Subject, name: str, code: str, message: str, hint: str) -> Fault:
    setting = next(one for one in subject.policy.sysctls if one.name == name)
    document = next(one for one in subject.documents if one.file == setting.file)
    section, _, knob = name.partition(".")
    return _warning(document, (section, knob), code, message, hint)
