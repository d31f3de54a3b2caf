"""Warnings about policies that are valid, but probably not what their author wants.

Each check is a function in `CHECKS` that yields warnings. Codes never change; docs/lint.md describes them.
"""

import re
import warnings
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from typing import TYPE_CHECKING

from oomguard.core.guard import fatal_bound, unwise
from oomguard.core.host import AskedHost, Host
from oomguard.core.match import is_glob
from oomguard.core.name_regex import STEPS_LIMIT, is_regex, text_of
from oomguard.core.overcommit import HUGE_PAGES, Memory
from oomguard.core.process import COMM_LENGTH, NAME_LIMIT
from oomguard.core.rule import CONDITIONS, OOM_SCORE_ADJ_MIN, VOUCHING
from oomguard.core.text import any_of, counted
from oomguard.policy.backtracking import TRIAL_LENGTH, NoTimeError, slow_on_names, slow_text
from oomguard.policy.compile import resolved
from oomguard.policy.fault import Fault, excerpt
from oomguard.policy.lookalike import Lookalike, lookalike, unusual_character
from oomguard.policy.nodes import locate
from oomguard.policy.programs import HAND_ON, INTERPRETERS, SUPERVISORS, USERS_PROGRAMS, WORKERS, known
from oomguard.policy.regex_to_glob import said_names
from oomguard.policy.shadow import shadows
from oomguard.policy.sysctl_model import COMMIT_LIMIT, keys_of
from oomguard.policy.unmatchable import unmatchable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from oomguard.core.policy import Policy, SysctlSetting
    from oomguard.core.rule import Rule, Terms
    from oomguard.policy.compile import PolicyFile, Users

    Trial = Callable[[re.Pattern[str], str], bool]


_TIB, _HUGE_PAGE_KIB = 2**30, 2048


@dataclass(frozen=True)
class Subject:
    """The input of a check. `users` are the users of this host, None if the policy is for another one.

    `trial(pattern, text)` returns whether a search takes too long; None skips that check.
    """

    policy: "Policy"
    documents: "tuple[PolicyFile, ...]"
    users: "Users | None"
    trial: "Trial | None" = None

    def rules(self) -> "Iterator[tuple[PolicyFile, int, Rule]]":
        """Yield each rule with its file and its index in that file."""
        compiled = iter(self.policy.rules)
        for document in self.documents:
            for index in range(len(document.rules)):
                yield document, index, next(compiled)

    def naming(self, programs: frozenset[str]) -> "Iterator[tuple[PolicyFile, int, Rule, str]]":
        """Yield each rule that names one of some `programs`, as `rules` does, and the first that it names."""
        for document, index, rule in self._of_programs:
            if program := _named(rule, programs):
                yield document, index, rule, program

    @cached_property
    def _of_programs(self) -> "list[tuple[PolicyFile, int, Rule]]":
        return [found for found in self.rules() if _named(found[2], _PROGRAMS)]

    def counts_beside(self, first: "Rule", document: "PolicyFile") -> bool:
        """Return whether a rule counts on every host on which a file does."""
        other = next(one for one in self.documents if one.file == first.file)
        return other.said.when in (None, document.said.when)

    def setting(self, name: str) -> int | None:
        """Return the value of a sysctl in the policy, None if it has none."""
        return next((one.value for one in self.policy.sysctls if one.name == name), None)


def lint(subject: Subject) -> list[Fault]:
    """Return all warnings, in no particular order."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # patterns were compiled before
        return [found for check in CHECKS for found in check(subject)]


def _shadowed_rule(subject: Subject) -> "Iterator[Fault]":
    earlier = shadows(subject.policy.rules)
    layers = {document.file: document.layer for document in subject.documents}
    for document, index, rule in subject.rules():
        first = earlier.get(rule.number)
        # A higher layer overrides it on purpose.
        if (
            first is not None
            and layers[first.file] == document.layer
            and subject.counts_beside(first, document)
        ):
            yield _warning(
                document,
                ("rules", index),
                "shadowed-rule",
                f"never takes effect: the rule at {excerpt(first.source)} ({excerpt(first.label)}) "
                "matches the same processes first",
                "remove one of them, or move this one above the other",
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


def _lookalikes(subject: Subject) -> "Iterator[Fault]":
    odd: dict[Terms, list[tuple[str, int, Lookalike]]] = {}
    for document, index, rule in subject.rules():
        names = ["" if is_regex(name) else name.decode() for name in rule.names]
        for position, name in enumerate(names):
            found = lookalike(name) if name else None
            if found is not None and name.removesuffix(".*") not in [
                *names[:position],
                *names[position + 1 :],
            ]:
                yield _warning(document, ("rules", index, "name", position), *found)
        if rule.terms not in odd:
            odd[rule.terms] = list(_unusual_terms(rule))
        for key, position, found in odd[rule.terms]:
            where, hint = ("rules", index, key, position), f"write {found.hint}"
            yield _warning(document, where, found.code, found.message, hint)


def _unusual_terms(rule: "Rule") -> "Iterator[tuple[str, int, Lookalike]]":
    """Yield each unusual character of the conditions that rules share, with its place."""
    for row in CONDITIONS:
        for position, text in enumerate(rule.patterns(row) if row.key != "name" else ()):
            found = unusual_character(str(text))
            if found is not None:
                yield row.key, position, found


def _raised_supervisor(subject: Subject) -> "Iterator[Fault]":
    supervisors = list(subject.naming(SUPERVISORS))
    if not supervisors or any(map(_names_a_worker, subject.policy.rules)):
        return
    for document, index, rule, program in supervisors:
        value = rule.terms.value
        is_raised = value.kind in {"exact", "at_least"} and value.number > 0
        if is_raised and rule.terms.children == "reset":
            yield _warning(
                document,
                ("rules", index, "name"),
                "raised-supervisor",
                f"{program} gets {value.number}, but the programs it starts, which use the memory, are reset",
                "add children: inherit, or add a rule for those programs",
            )


def _names_a_worker(rule: "Rule") -> bool:
    names = said_names(rule)
    return any(
        any(fnmatchcase(worker, name) for worker in WORKERS) if is_glob(name) else name in WORKERS
        for name in names
    )


def _interpreter(subject: Subject) -> "Iterator[Fault]":
    for document, index, rule, program in subject.naming(INTERPRETERS):
        if rule.has_only("name") and rule.terms.value.kind != "keep":
            yield _warning(
                document,
                ("rules", index, "name"),
                "interpreter-name",
                f"{program} runs many programs: the rule matches all of them",
                "add unit, user or cmdline; a script that starts with #! has its own name",
            )


def _users_program(subject: Subject) -> "Iterator[Fault]":
    for document, index, rule, program in subject.naming(USERS_PROGRAMS):
        terms = rule.terms
        if terms.value.protects and terms.trust == "verified" and not rule.vouches:
            yield _warning(
                document,
                ("rules", index, "name"),
                "unvouched",
                f"oomguard refuses to protect the {program} of a user by name alone: any program can have "
                "this name",
                "add user, unit or exe",
            )


def _handed_on(subject: Subject) -> "Iterator[Fault]":
    for document, index, rule, program in subject.naming(HAND_ON):
        if rule.terms.value.kind != "keep":
            yield _warning(
                document,
                ("rules", index, "name"),
                "handed-on",
                f"{program} passes the value it starts with on to every session, so every shell gets it",
                "write oom_score_adj: keep; the listener sets itself to -1000",
            )


_PROGRAMS = INTERPRETERS | USERS_PROGRAMS | HAND_ON | SUPERVISORS
"""Programs that checks look for with `Subject.naming`."""


def _named(rule: "Rule", programs: frozenset[str]) -> str:
    """Return the first of `programs` that a rule names, "" if it names none."""
    return next((found for name in said_names(rule) if (found := known(name, programs))), "")


def _names_collide(subject: Subject) -> "Iterator[Fault]":
    """Find names that the kernel cuts to the same 15 bytes, in rules with different values."""
    seen: dict[bytes, tuple[bytes, Rule]] = {}
    for document, index, rule in subject.rules():
        names = [
            name
            for name in rule.names
            if len(name) >= COMM_LENGTH and not is_glob(name) and not is_regex(name)
        ]
        if not names or not rule.has_only("name", "user"):
            continue
        for name in names:
            other, first = seen.setdefault(name[:COMM_LENGTH], (name, rule))
            same = other == name or first.terms == rule.terms or first.terms.value == rule.terms.value
            if same or not subject.counts_beside(first, document):
                continue
            if len(name) == COMM_LENGTH:  # the longer one comes first: both work
                continue
            cut = excerpt(name[:COMM_LENGTH].decode("utf-8", "replace"))
            where = f"{excerpt(other.decode('utf-8', 'replace'))} at {excerpt(first.source)}"
            yield _warning(
                document,
                ("rules", index, "name"),
                "names-collide",
                f"the kernel keeps only {cut} of this name, so {where} matches it first"
                if len(other) == COMM_LENGTH
                else f"the kernel keeps only {cut} of this name and of {where}, which has another value; the "
                "command line tells them apart, but a process can change it",
                "move the longer name up" if len(other) == COMM_LENGTH else "add unit, user or exe",
            )
            break


def _slow_pattern(subject: Subject) -> "Iterator[Fault]":
    if subject.trial is None:
        return
    tried: dict[str, bool] = {}
    untried: dict[str, tuple[PolicyFile, tuple[int | str, ...]]] = {}
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
                    f"on some command lines of {TRIAL_LENGTH} characters this takes more than 20 ms, and "
                    "then the rule does not match",
                    "do not nest repetitions: for (a+)+ write a+, for (.*x)* write .*x",
                )
    if untried:
        document, loc = next(iter(untried.values()))
        yield _warning(
            document,
            loc,
            "slow-pattern",
            f"{counted(len(untried), 'pattern')} from here on not tested: the time for it is used up",
            "fix the slow patterns first, then check again",
        )


def _slow_name(subject: Subject) -> "Iterator[Fault]":
    if subject.trial is None:
        return
    places: dict[str, tuple[PolicyFile, tuple[int | str, ...]]] = {}
    for document, index, rule in subject.rules():
        for position, name in enumerate(rule.names):
            if is_regex(name):
                places.setdefault(text_of(name), (document, ("rules", index, "name", position)))
    slow, is_slow_together = slow_on_names(places)
    what = "this takes" if slow else "all expressions together take"
    for pattern in slow or [*places][:is_slow_together]:
        yield _warning(
            *places[pattern],
            "slow-pattern",
            f"on some names of {NAME_LIMIT} bytes {what} over {STEPS_LIMIT:,} steps, and then none matches",
            "write .* for .{0,99}, and exact names or globs where they suffice",
        )


def _immune(subject: Subject) -> "Iterator[Fault]":
    for document, index, rule in subject.rules():
        value = rule.terms.value
        if value.kind in {"exact", "at_most"} and value.number == OOM_SCORE_ADJ_MIN:
            yield _warning(
                document,
                ("rules", index, "oom_score_adj"),
                "immune",
                "-1000 forbids killing it even if its own cgroup is out of memory: if it leaks, the cgroup "
                "hangs",
                "write -999, which protects it as well on the rest of the host",
            )


def _trust_name(subject: Subject) -> "Iterator[Fault]":
    for document, index, rule in subject.rules():
        if rule.terms.trust == "name" and not rule.vouches:
            yield _warning(
                document,
                ("rules", index, "trust"),
                "trust-name",
                "any user can give a program this name to protect it",
                f"add {any_of(row.key for row in VOUCHING)} instead",
            )


def _loose_cgroup(subject: Subject) -> "Iterator[Fault]":
    for document, index, rule in subject.rules():
        terms = rule.terms
        if not terms.value.protects or any(rule.patterns(row) for row in VOUCHING if row.key != "cgroup"):
            continue
        for position, pattern in enumerate(terms.cgroups):
            if pattern.startswith("*"):
                yield _warning(
                    document,
                    ("rules", index, "cgroup", position),
                    "loose-cgroup",
                    "this also matches cgroups that users make, where oomguard refuses to protect processes",
                    "start the path with /, as in /system.slice/postgresql*, or use unit",
                )


def _inherited_protection(subject: Subject) -> "Iterator[Fault]":
    for document, index, rule in subject.rules():
        value = rule.terms.value
        if rule.terms.children == "inherit" and value.protects:
            yield _warning(
                document,
                ("rules", index, "children"),
                "inherited-protection",
                "all programs that these start are protected too",
                "remove children, and add a rule for each program to protect",
            )


_EVERYTHING = re.compile(r"\0(?:\^?\.[*+]\??\$?|\^?(?:\.\??)?|(?:\.\??)?\$)")
"""Regular expressions on names, with the mark of `core.name_regex`, that match any name."""


def _protects_all(subject: Subject) -> "Iterator[Fault]":
    for document, index, rule in subject.rules():
        said = (patterns for row in CONDITIONS if (patterns := rule.patterns(row)))
        if rule.terms.value.protects and all(any(map(_is_everything, patterns)) for patterns in said):
            yield _warning(
                document,
                ("rules", index),
                "protects-all",
                "protects every process: the kernel then chooses among them as if none were protected",
                "name the processes to protect",
            )


def _is_everything(pattern: str | bytes) -> bool:
    text = pattern.decode("utf-8", "surrogateescape") if isinstance(pattern, bytes) else pattern
    is_glob_of_all = "*" in text and text.strip("*") in ("", "?")
    return is_glob_of_all or _EVERYTHING.fullmatch(text) is not None


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
                    "create the user and reload the policy; until then the rule does not match this user",
                )


def _panic_hangs(subject: Subject) -> "Iterator[Fault]":
    for name, when in (("vm.panic_on_oom", "memory runs out"), ("kernel.panic_on_oops", "it meets a bug")):
        if subject.setting(name) and not subject.setting("kernel.panic"):
            yield _sysctl_warning(
                subject,
                name,
                "panic-hangs",
                f"the host panics when {when}, and hangs unless kernel.panic is set",
                "add kernel: {panic: 10} to reboot after 10 seconds",
            )


def _panic_with_limits(subject: Subject) -> "Iterator[Fault]":
    if subject.setting("vm.panic_on_oom") == 2:
        yield _sysctl_warning(
            subject,
            "vm.panic_on_oom",
            "panic-with-limits",
            "2 panics the host whenever any unit or container reaches its own memory limit",
            "write panic_on_oom: 1 to panic only when the whole host runs out of memory",
        )


def _limit_without_mode(subject: Subject) -> "Iterator[Fault]":
    if subject.setting("vm.overcommit_memory") == 2:
        return
    for document in subject.documents:
        for knob in ("overcommit_ratio", "overcommit_kbytes", "commit_limit"):
            if getattr(document.said.vm, knob, None) is not None:
                yield _warning(
                    document,
                    ("vm", knob),
                    "limit-without-mode",
                    "has no effect, because this policy does not set vm.overcommit_memory to 2",
                    "add overcommit_memory: 2, or remove this",
                )


def _ratio_over_100(subject: Subject) -> "Iterator[Fault]":
    ratio = subject.setting("vm.overcommit_ratio")
    if ratio is not None and ratio > 100:
        yield _sysctl_warning(
            subject,
            "vm.overcommit_ratio",
            "ratio-over-100",
            f"promises {ratio} % of RAM, more than the host has",
            "write 100 or less; the kernel adds swap by itself",
        )


def _unwise_value(subject: Subject) -> "Iterator[Fault]":
    for setting in subject.policy.sysctls:
        found = unwise(setting)
        if found is not None:
            yield _at_setting(subject, setting, "unwise-value", *found)
    if subject.policy.unresolved:
        yield from _unwise_shares(subject)


def _unwise_shares(subject: Subject) -> "Iterator[Fault]":
    """Find shares of RAM that oomguard refuses on every host."""
    host, memory = Host(_TIB, 0, 0, 0, _HUGE_PAGE_KIB), Memory(_TIB, 0, 0, 0, 0, 0, _HUGE_PAGE_KIB, _TIB)
    for setting in resolved(subject.documents, AskedHost(host))[0]:
        raises = "% of " in setting.said and setting.kind != "at_most"
        found = fatal_bound(setting.name, setting.value, 0, memory) if raises else None
        if found is not None:
            bound, limit = found
            percent = round(100 * limit * (_HUGE_PAGE_KIB if setting.name == HUGE_PAGES else 1) / _TIB)
            share = setting.said.partition(" of ")[0]
            message = f"{share} of RAM is refused on any host, as is any above {percent} %: {bound.why}"
            yield _at_setting(subject, setting, "unwise-value", message, bound.hint)


CHECKS: "tuple[Callable[[Subject], Iterator[Fault]], ...]" = (
    _shadowed_rule,
    _never_matches,
    _lookalikes,
    _interpreter,
    _users_program,
    _handed_on,
    _names_collide,
    _slow_pattern,
    _slow_name,
    _immune,
    _protects_all,
    _trust_name,
    _loose_cgroup,
    _inherited_protection,
    _raised_supervisor,
    _unknown_user,
    _panic_hangs,
    _panic_with_limits,
    _limit_without_mode,
    _ratio_over_100,
    _unwise_value,
)


def _warning(document: "PolicyFile", loc: tuple[int | str, ...], code: str, message: str, hint: str) -> Fault:
    here = locate(document.root, loc)
    return Fault(document.file, here.line, here.column, here.path, message, hint, "warning", code)


def _sysctl_warning(subject: Subject, name: str, code: str, message: str, hint: str) -> Fault:
    setting = next(one for one in subject.policy.sysctls if one.name == name)
    return _at_setting(subject, setting, code, message, hint)


def _at_setting(subject: Subject, setting: "SysctlSetting", code: str, message: str, hint: str) -> Fault:
    document = next(one for one in subject.documents if one.file == setting.file)
    key = next(key for key in (setting.name, COMMIT_LIMIT) if locate(document.root, keys_of(key)).path == key)
    return _warning(document, keys_of(key), code, message, hint)
