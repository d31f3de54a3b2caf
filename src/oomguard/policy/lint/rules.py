"""Warnings about rules."""

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase

from oomguard.core.match import is_glob
from oomguard.core.name_regex import is_regex
from oomguard.core.process import COMM_LENGTH
from oomguard.core.rule import CONDITIONS, OOM_SCORE_ADJ_MIN, VOUCHING, Rule, Terms
from oomguard.core.text import any_of
from oomguard.policy.fault import Fault, Problem, excerpt
from oomguard.policy.lint.lookalike import lookalike, unusual_character
from oomguard.policy.lint.programs import HAND_ON, INTERPRETERS, SUPERVISORS, USERS_PROGRAMS, WORKERS, known
from oomguard.policy.lint.shadow import shadows
from oomguard.policy.lint.subject import Loc, Subject, warning
from oomguard.policy.lint.unmatchable import unmatchable
from oomguard.policy.regex_to_glob import said_names

_Found = Iterator[tuple[Loc, Problem]]
"""Warnings about a rule, each with the keys below it."""


def shadowed_rules(subject: Subject) -> Iterator[Fault]:
    """Find rules that never take effect, because an earlier one of their layer matches the same."""
    earlier = shadows(subject.policy.rules)
    layers = {document.file: document.layer for document in subject.documents}
    for document, index, rule in subject.rules():
        first = earlier.get(rule.number)
        # A higher layer overrides it on purpose.
        if first and layers[first.file] == document.layer and subject.counts_beside(first, document):
            where = f"the rule at {excerpt(first.source)} ({excerpt(first.label)})"
            message = f"never takes effect: {where} matches the same processes first"
            problem = Problem(
                "shadowed-rule", message, "remove one of them, or move this one above the other"
            )
            yield warning(document, ("rules", index), problem)


def rules_alone(subject: Subject) -> Iterator[Fault]:
    """Find what is odd about a rule, whatever the others are."""
    of_terms: dict[Terms, list[tuple[Loc, Problem]]] = {}
    for document, index, rule in subject.rules():
        if rule.terms not in of_terms:
            of_terms[rule.terms] = [*_terms(rule)]
        for loc, problem in (*_names(rule), *of_terms[rule.terms]):
            yield warning(document, ("rules", index, *loc), problem)


def _names(rule: Rule) -> _Found:
    if found := unmatchable(rule):
        yield found
    names = ["" if is_regex(name) else name.decode() for name in rule.names]
    for position, name in enumerate(names):
        problem = lookalike(name) if name else None
        # In `[ld, ld.*]`, a glob is meant.
        if problem and name.removesuffix(".*") not in (*names[:position], *names[position + 1 :]):
            yield ("name", position), problem
    if _named(rule, _PROGRAMS):
        yield from _programs(rule)
    if rule.terms.value.protects and not rule.terms.users and _is_of_everything(rule):
        yield (), _PROTECTS_ALL


def _programs(rule: Rule) -> _Found:
    terms = rule.terms
    if terms.value.kind == "keep":
        return
    if rule.has_only("name") and (program := _named(rule, INTERPRETERS)):
        message = f"{program} runs many programs: the rule matches all of them"
        hint = "add unit, user or cmdline; a script that starts with #! has its own name"
        yield ("name",), Problem("interpreter-name", message, hint)
    is_refused = terms.value.protects and terms.trust == "verified" and not rule.vouches
    if is_refused and (program := _named(rule, USERS_PROGRAMS)):
        what = f"oomguard refuses to protect the {program} of a user by name alone"
        yield (
            ("name",),
            Problem("unvouched", f"{what}: any program can have this name", "add user, unit or exe"),
        )
    if program := _named(rule, HAND_ON):
        message = f"{program} passes the value it starts with on to every session, so every shell gets it"
        hint = "write oom_score_adj: keep; the listener sets itself to -1000"
        yield ("name",), Problem("handed-on", message, hint)


_PROGRAMS = INTERPRETERS | USERS_PROGRAMS | HAND_ON


def _named(rule: Rule, programs: frozenset[str]) -> str:
    """Return the first of `programs` that a rule names, "" if it names none."""
    return next((found for name in said_names(rule) if (found := known(name, programs))), "")


def _terms(rule: Rule) -> _Found:
    """Yield what is odd about the conditions and values that rules share."""
    terms, value = rule.terms, rule.terms.value
    for row in CONDITIONS:
        for position, text in enumerate(rule.patterns(row) if row.key != "name" else ()):
            if found := unusual_character(str(text)):
                yield (row.key, position), found._replace(hint=f"write {found.hint}")
    if value.kind in {"exact", "at_most"} and value.number == OOM_SCORE_ADJ_MIN:
        yield ("oom_score_adj",), _IMMUNE
    if terms.trust == "name" and value.kind in {"exact", "at_most"} and not rule.vouches:
        yield ("trust",), _TRUST_NAME
    if value.protects and not any(rule.patterns(row) for row in VOUCHING if row.key != "cgroup"):
        for position, pattern in enumerate(terms.cgroups):
            if pattern.startswith("*"):
                yield ("cgroup", position), _LOOSE_CGROUP
    if value.protects and terms.children == "inherit":
        yield ("children",), _INHERITED_PROTECTION


_IMMUNE = Problem(
    "immune",
    "-1000 forbids killing it even if its own cgroup is out of memory: if it leaks, the cgroup hangs",
    "write -999, which protects it as well on the rest of the host",
)
_TRUST_NAME = Problem(
    "trust-name",
    "any user can give a program this name to protect it",
    f"add {any_of(row.key for row in VOUCHING)} instead",
)
_LOOSE_CGROUP = Problem(
    "loose-cgroup",
    "this also matches cgroups that users make, where oomguard refuses to protect processes",
    "start the path with /, as in /system.slice/postgresql*, or use unit",
)
_INHERITED_PROTECTION = Problem(
    "inherited-protection",
    "all programs that these start are protected too",
    "remove children, and add a rule for each program to protect",
)
_PROTECTS_ALL = Problem(
    "protects-all",
    "protects every process: the kernel then chooses among them as if none were protected",
    "name the processes to protect",
)

_EVERYTHING = re.compile(r"\0(?:\^?\.[*+]\??\$?|\^?(?:\.\??)?|(?:\.\??)?\$)")
"""Regular expressions, with the mark of `core.name_regex`, that match any text."""


def _is_of_everything(rule: Rule) -> bool:
    regexes = [f"\0{one}" for one in rule.terms.cmdlines]
    said = (regexes if row.key == "cmdline" else rule.patterns(row) for row in CONDITIONS)
    return all(any(map(_is_everything, patterns)) for patterns in said if patterns)


def _is_everything(pattern: str | bytes) -> bool:
    text = pattern.decode("utf-8", "surrogateescape") if isinstance(pattern, bytes) else pattern
    is_glob_of_all = "*" in text and text.strip("*") in ("", "?", "/")
    return is_glob_of_all or _EVERYTHING.fullmatch(text) is not None


def raised_supervisors(subject: Subject) -> Iterator[Fault]:
    """Find rules that raise a build tool, and so none of the programs that use the memory."""
    for document, index, rule in subject.rules():
        value = rule.terms.value
        is_raised = value.kind in {"exact", "at_least"} and value.number > 0
        program = is_raised and rule.terms.children == "reset" and _named(rule, SUPERVISORS)
        if not program:
            continue
        if any(map(_names_a_worker, subject.policy.rules)):
            return
        problem = Problem(
            "raised-supervisor",
            f"{program} gets {value.number}, but the programs it starts, which use the memory, are reset",
            "add children: inherit, or add a rule for those programs",
        )
        yield warning(document, ("rules", index, "name"), problem)


def _names_a_worker(rule: Rule) -> bool:
    return any(
        any(fnmatchcase(worker, name) for worker in WORKERS) if is_glob(name) else name in WORKERS
        for name in said_names(rule)
    )


def names_collide(subject: Subject) -> Iterator[Fault]:
    """Find names that the kernel cuts to the same 15 bytes, in rules with different values."""
    seen: dict[bytes, tuple[bytes, Rule]] = {}
    for document, index, rule in subject.rules():
        for name in rule.names:
            if len(name) < COMM_LENGTH or is_glob(name) or is_regex(name):
                continue
            if not rule.has_only("name", "user"):
                break
            other, first = seen.setdefault(name[:COMM_LENGTH], (name, rule))
            users = rule.terms.users
            if users and first.terms.users and {*users}.isdisjoint(first.terms.users):
                continue
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
            yield warning(document, ("rules", index, "name"), Problem("names-collide", message, hint))
            break


def unknown_users(subject: Subject) -> Iterator[Fault]:
    """Find users that this host does not have, or none can have."""
    for document, index, rule in subject.rules():
        for position, user in enumerate(rule.terms.users):
            is_uid = user.isascii() and user.isdecimal()
            problem = None
            if is_glob(user):
                what = f"{excerpt(user)} is a glob, but user takes names and uids"
                problem = Problem("unknown-user", what, "name each user, or leave out the condition")
            elif not is_uid and subject.users and subject.users.uid(user) is None:
                hint = "create the user and reload the policy; until then the rule does not match this user"
                problem = Problem("unknown-user", f"this host has no user {excerpt(user)}", hint)
            if problem:
                yield warning(document, ("rules", index, "user", position), problem)
