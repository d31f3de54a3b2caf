"""Warnings about policies that are valid, but probably not what their author wants.

Each check is a function in `CHECKS` that yields warnings. Codes never change; docs/lint.md describes them.
"""

import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from oomguard.core.guard import fatal_bound, unwise
from oomguard.core.host import AskedHost, Host
from oomguard.core.match import is_glob
from oomguard.core.name_regex import STEPS_LIMIT, is_regex, text_of
from oomguard.core.overcommit import HUGE_PAGES, Memory
from oomguard.core.process import COMM_LENGTH, NAME_LIMIT
from oomguard.core.rule import CONDITIONS, OOM_SCORE_ADJ_MIN, VOUCHING
from oomguard.core.text import any_of, counted
from oomguard.policy.compile import resolved
from oomguard.policy.fault import Fault, Words, excerpt
from oomguard.policy.lint.lookalike import lookalike, unusual_character
from oomguard.policy.lint.programs import HAND_ON, INTERPRETERS, SUPERVISORS, USERS_PROGRAMS, WORKERS, known
from oomguard.policy.lint.shadow import shadows
from oomguard.policy.lint.slow_patterns import TRIAL_LENGTH, slow_on_names, slow_on_texts
from oomguard.policy.lint.unmatchable import unmatchable
from oomguard.policy.nodes import locate
from oomguard.policy.regex_to_glob import said_names
from oomguard.policy.sysctl_model import COMMIT_LIMIT, keys_of

if TYPE_CHECKING:
    from oomguard.core.policy import Policy, SysctlSetting
    from oomguard.core.rule import Rule, Terms
    from oomguard.policy.compile import PolicyFile
    from oomguard.policy.users import Users

Trial = Callable[[re.Pattern[str], str], bool]
Loc = tuple[int | str, ...]
_Found = Iterator[tuple[Loc, Words]]
"""Warnings about a rule, each with the keys below it."""

_TIB, _HUGE_PAGE_KIB = 2**30, 2048


@dataclass(frozen=True)
class Subject:
    """The input of a check. `users` are the users of this host, None if the policy is for another one.

    `trial(pattern, text)` returns whether a search takes too long; None skips that check.
    """

    policy: "Policy"
    documents: "tuple[PolicyFile, ...]"
    users: "Users | None"
    trial: Trial | None = None

    def rules(self) -> "Iterator[tuple[PolicyFile, int, Rule]]":
        """Yield each rule with its file and its index in that file."""
        compiled = iter(self.policy.rules)
        for document in self.documents:
            for index in range(len(document.rules)):
                yield document, index, next(compiled)

    def regexes(self, key: str) -> "dict[str, list[tuple[PolicyFile, Loc]]]":
        """Return the places of each regular expression that is a `cmdline` or a `name`."""
        found: dict[str, list[tuple[PolicyFile, Loc]]] = {}
        for document, index, rule in self.rules():
            names = (text_of(name) if is_regex(name) else None for name in rule.names)
            for position, regex in enumerate(names if key == "name" else rule.terms.cmdlines):
                if regex is not None:
                    found.setdefault(regex, []).append((document, ("rules", index, key, position)))
        return found

    def counts_beside(self, first: "Rule", document: "PolicyFile") -> bool:
        """Return whether a rule counts on every host on which a file does."""
        other = next(one for one in self.documents if one.file == first.file)
        return other.said.when in (None, document.said.when)


def lint(subject: Subject) -> list[Fault]:
    """Return all warnings, in no particular order."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # patterns were compiled before
        return [found for check in CHECKS for found in check(subject)]


def _warning(document: "PolicyFile", loc: Loc, words: Words) -> Fault:
    here = locate(document.root, loc)
    return words.at(document.file, here.line, here.column, here.path, "warning")


# Rules


def _shadowed_rules(subject: Subject) -> Iterator[Fault]:
    earlier = shadows(subject.policy.rules)
    layers = {document.file: document.layer for document in subject.documents}
    for document, index, rule in subject.rules():
        first = earlier.get(rule.number)
        # A higher layer overrides it on purpose.
        if first and layers[first.file] == document.layer and subject.counts_beside(first, document):
            where = f"the rule at {excerpt(first.source)} ({excerpt(first.label)})"
            message = f"never takes effect: {where} matches the same processes first"
            words = Words("shadowed-rule", message, "remove one of them, or move this one above the other")
            yield _warning(document, ("rules", index), words)


def _rules_alone(subject: Subject) -> Iterator[Fault]:
    """Find what is odd about a rule, whatever the others are."""
    of_terms: dict[Terms, list[tuple[Loc, Words]]] = {}
    for document, index, rule in subject.rules():
        if rule.terms not in of_terms:
            of_terms[rule.terms] = [*_terms(rule)]
        for loc, words in (*_names(rule), *of_terms[rule.terms]):
            yield _warning(document, ("rules", index, *loc), words)


def _names(rule: "Rule") -> _Found:
    if found := unmatchable(rule):
        yield found
    names = ["" if is_regex(name) else name.decode() for name in rule.names]
    for position, name in enumerate(names):
        words = lookalike(name) if name else None
        # In `[ld, ld.*]`, a glob is meant.
        if words and name.removesuffix(".*") not in (*names[:position], *names[position + 1 :]):
            yield ("name", position), words
    if _named(rule, _PROGRAMS):
        yield from _programs(rule)
    patterns = [said for row in CONDITIONS if (said := rule.patterns(row))]
    if rule.terms.value.protects and all(any(map(_is_everything, said)) for said in patterns):
        yield (), _PROTECTS_ALL


def _programs(rule: "Rule") -> _Found:
    terms = rule.terms
    if terms.value.kind == "keep":
        return
    if rule.has_only("name") and (program := _named(rule, INTERPRETERS)):
        message = f"{program} runs many programs: the rule matches all of them"
        hint = "add unit, user or cmdline; a script that starts with #! has its own name"
        yield ("name",), Words("interpreter-name", message, hint)
    is_refused = terms.value.protects and terms.trust == "verified" and not rule.vouches
    if is_refused and (program := _named(rule, USERS_PROGRAMS)):
        what = f"oomguard refuses to protect the {program} of a user by name alone"
        yield (
            ("name",),
            Words("unvouched", f"{what}: any program can have this name", "add user, unit or exe"),
        )
    if program := _named(rule, HAND_ON):
        message = f"{program} passes the value it starts with on to every session, so every shell gets it"
        hint = "write oom_score_adj: keep; the listener sets itself to -1000"
        yield ("name",), Words("handed-on", message, hint)


_PROGRAMS = INTERPRETERS | USERS_PROGRAMS | HAND_ON


def _named(rule: "Rule", programs: frozenset[str]) -> str:
    """Return the first of `programs` that a rule names, "" if it names none."""
    return next((found for name in said_names(rule) if (found := known(name, programs))), "")


def _terms(rule: "Rule") -> _Found:
    """Yield what is odd about the conditions and values that rules share."""
    terms, value = rule.terms, rule.terms.value
    for row in CONDITIONS:
        for position, text in enumerate(rule.patterns(row) if row.key != "name" else ()):
            if found := unusual_character(str(text)):
                yield (row.key, position), found._replace(hint=f"write {found.hint}")
    if value.kind in {"exact", "at_most"} and value.number == OOM_SCORE_ADJ_MIN:
        yield ("oom_score_adj",), _IMMUNE
    if terms.trust == "name" and not rule.vouches:
        yield ("trust",), _TRUST_NAME
    if value.protects and not any(rule.patterns(row) for row in VOUCHING if row.key != "cgroup"):
        for position, pattern in enumerate(terms.cgroups):
            if pattern.startswith("*"):
                yield ("cgroup", position), _LOOSE_CGROUP
    if value.protects and terms.children == "inherit":
        yield ("children",), _INHERITED_PROTECTION


_IMMUNE = Words(
    "immune",
    "-1000 forbids killing it even if its own cgroup is out of memory: if it leaks, the cgroup hangs",
    "write -999, which protects it as well on the rest of the host",
)
_TRUST_NAME = Words(
    "trust-name",
    "any user can give a program this name to protect it",
    f"add {any_of(row.key for row in VOUCHING)} instead",
)
_LOOSE_CGROUP = Words(
    "loose-cgroup",
    "this also matches cgroups that users make, where oomguard refuses to protect processes",
    "start the path with /, as in /system.slice/postgresql*, or use unit",
)
_INHERITED_PROTECTION = Words(
    "inherited-protection",
    "all programs that these start are protected too",
    "remove children, and add a rule for each program to protect",
)
_PROTECTS_ALL = Words(
    "protects-all",
    "protects every process: the kernel then chooses among them as if none were protected",
    "name the processes to protect",
)

_EVERYTHING = re.compile(r"\0(?:\^?\.[*+]\??\$?|\^?(?:\.\??)?|(?:\.\??)?\$)")
"""Regular expressions on names, with the mark of `core.name_regex`, that match any name."""


def _is_everything(pattern: str | bytes) -> bool:
    text = pattern.decode("utf-8", "surrogateescape") if isinstance(pattern, bytes) else pattern
    is_glob_of_all = "*" in text and text.strip("*") in ("", "?")
    return is_glob_of_all or _EVERYTHING.fullmatch(text) is not None


def _raised_supervisors(subject: Subject) -> Iterator[Fault]:
    for document, index, rule in subject.rules():
        value = rule.terms.value
        is_raised = value.kind in {"exact", "at_least"} and value.number > 0
        program = is_raised and rule.terms.children == "reset" and _named(rule, SUPERVISORS)
        if not program:
            continue
        if any(map(_names_a_worker, subject.policy.rules)):
            return
        words = Words(
            "raised-supervisor",
            f"{program} gets {value.number}, but the programs it starts, which use the memory, are reset",
            "add children: inherit, or add a rule for those programs",
        )
        yield _warning(document, ("rules", index, "name"), words)


def _names_a_worker(rule: "Rule") -> bool:
    return any(
        any(fnmatchcase(worker, name) for worker in WORKERS) if is_glob(name) else name in WORKERS
        for name in said_names(rule)
    )


def _names_collide(subject: Subject) -> Iterator[Fault]:
    """Find names that the kernel cuts to the same 15 bytes, in rules with different values."""
    seen: dict[bytes, tuple[bytes, Rule]] = {}
    for document, index, rule in subject.rules():
        for name in rule.names:
            if len(name) < COMM_LENGTH or is_glob(name) or is_regex(name):
                continue
            if not rule.has_only("name", "user"):
                break
            other, first = seen.setdefault(name[:COMM_LENGTH], (name, rule))
            same = other == name or first.terms == rule.terms or first.terms.value == rule.terms.value
            # If the longer one comes first, both work.
            if same or len(name) == COMM_LENGTH or not subject.counts_beside(first, document):
                continue
            cut = excerpt(name[:COMM_LENGTH].decode("utf-8", "replace"))
            where = f"{excerpt(other.decode('utf-8', 'replace'))} at {excerpt(first.source)}"
            if len(other) == COMM_LENGTH:
                message = f"the kernel keeps only {cut} of this name, so {where} matches it first"
                hint = "move the longer name up"
            else:
                message = (
                    f"the kernel keeps only {cut} of this name and of {where}, which has another value; the "
                    "command line tells them apart, but a process can change it"
                )
                hint = "add unit, user or exe"
            yield _warning(document, ("rules", index, "name"), Words("names-collide", message, hint))
            break


def _slow_patterns(subject: Subject) -> Iterator[Fault]:
    if subject.trial is None:
        return
    patterns = subject.regexes("cmdline")
    slow, untried = slow_on_texts(patterns, subject.trial)
    for place in (place for pattern in slow for place in patterns[pattern]):
        yield _warning(*place, _SLOW_PATTERN)
    if untried:
        left = counted(len(untried), "pattern")
        words = Words(
            "slow-pattern",
            f"{left} from here on not tested: there are too many, or too many slow ones",
            "fix the slow patterns first, then check again",
        )
        yield _warning(*patterns[untried[0]][0], words)


_SLOW_PATTERN = Words(
    "slow-pattern",
    f"on some command lines of {TRIAL_LENGTH} characters this takes more than 20 ms, and then the rule does "
    "not match",
    "do not nest repetitions: for (a+)+ write a+, for (.*x)* write .*x",
)


def _slow_names(subject: Subject) -> Iterator[Fault]:
    if subject.trial is None:
        return
    regexes = subject.regexes("name")
    slow, is_slow_together = slow_on_names(regexes)
    what = "this takes" if slow else "all expressions together take"
    words = Words(
        "slow-pattern",
        f"on some names of {NAME_LIMIT} bytes {what} over {STEPS_LIMIT:,} steps, and then none matches",
        "write .* for .{0,99}, and exact names or globs where they suffice",
    )
    for regex in slow or [*regexes][:is_slow_together]:
        yield _warning(*regexes[regex][0], words)


def _unknown_users(subject: Subject) -> Iterator[Fault]:
    for document, index, rule in subject.rules() if subject.users else ():
        for position, user in enumerate(rule.terms.users):
            if not user.isdecimal() and subject.users and subject.users.uid(user) is None:
                hint = "create the user and reload the policy; until then the rule does not match this user"
                words = Words("unknown-user", f"this host has no user {excerpt(user)}", hint)
                yield _warning(document, ("rules", index, "user", position), words)


# Sysctls


def _sysctls(subject: Subject) -> Iterator[Fault]:
    settings = {one.name: one for one in subject.policy.sysctls}
    value = {name: setting.value for name, setting in settings.items()}
    for name, when in (("vm.panic_on_oom", "memory runs out"), ("kernel.panic_on_oops", "it meets a bug")):
        if value.get(name) and not value.get("kernel.panic"):
            message = f"the host panics when {when}, and hangs unless kernel.panic is set"
            words = Words("panic-hangs", message, "add kernel: {panic: 10} to reboot after 10 seconds")
            yield _at_setting(subject, settings[name], words)
    if value.get("vm.panic_on_oom") == 2:
        yield _at_setting(subject, settings["vm.panic_on_oom"], _PANIC_WITH_LIMITS)
    if value.get("vm.overcommit_memory") != 2:
        for document in subject.documents:
            for knob in ("overcommit_ratio", "overcommit_kbytes", "commit_limit"):
                if getattr(document.said.vm, knob, None) is not None:
                    yield _warning(document, ("vm", knob), _LIMIT_WITHOUT_MODE)
    ratio = value.get("vm.overcommit_ratio", 0)
    if ratio > 100:
        message = f"promises {ratio} % of RAM, more than the host has"
        words = Words("ratio-over-100", message, "write 100 or less; the kernel adds swap by itself")
        yield _at_setting(subject, settings["vm.overcommit_ratio"], words)
    for setting in subject.policy.sysctls:
        if found := unwise(setting):
            yield _at_setting(subject, setting, Words("unwise-value", *found))
    if subject.policy.unresolved:
        yield from _unwise_shares(subject)


_PANIC_WITH_LIMITS = Words(
    "panic-with-limits",
    "2 panics the host whenever any unit or container reaches its own memory limit",
    "write panic_on_oom: 1 to panic only when the whole host runs out of memory",
)
_LIMIT_WITHOUT_MODE = Words(
    "limit-without-mode",
    "has no effect, because this policy does not set vm.overcommit_memory to 2",
    "add overcommit_memory: 2, or remove this",
)


def _unwise_shares(subject: Subject) -> Iterator[Fault]:
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
            yield _at_setting(subject, setting, Words("unwise-value", message, bound.hint))


def _at_setting(subject: Subject, setting: "SysctlSetting", words: Words) -> Fault:
    document = next(one for one in subject.documents if one.file == setting.file)
    key = next(key for key in (setting.name, COMMIT_LIMIT) if locate(document.root, keys_of(key)).path == key)
    return _warning(document, keys_of(key), words)


CHECKS: tuple[Callable[[Subject], Iterator[Fault]], ...] = (
    *(_shadowed_rules, _rules_alone, _names_collide, _slow_patterns, _slow_names),
    *(_raised_supervisors, _unknown_users, _sysctls),
)
