"""From policy files to a policy, or to all their faults."""

import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from pydantic import ValidationError

from oomguard.core.host import AskedHost, Host, UnknownHostError
from oomguard.core.name_regex import is_regex, node_count, text_of
from oomguard.core.policy import LeftOut, Policy
from oomguard.core.rule import Terms
from oomguard.core.text import printable
from oomguard.policy import model, nodes, relations, scalars, yaml_tree
from oomguard.policy.compile import PolicyFile, compile_policy, compile_rule, digest
from oomguard.policy.fault import FAULTS_LIMIT, Fault, PolicyError, Problem
from oomguard.policy.language import Language
from oomguard.policy.lint.rules import (
    names_collide,
    raised_supervisors,
    rules_alone,
    shadowed_rules,
    unknown_users,
)
from oomguard.policy.lint.slow_patterns import slow_names, slow_patterns
from oomguard.policy.lint.subject import Subject, Trial
from oomguard.policy.lint.sysctls import sysctls
from oomguard.policy.messages import validation
from oomguard.policy.source import STANDARD_INPUT, Source, Sources, read_alone, read_sources
from oomguard.policy.users import Users
from oomguard.policy.when import When, unmet

_CHECKS: tuple[Callable[[Subject], Iterator[Fault]], ...] = (
    *(shadowed_rules, rules_alone, names_collide, slow_patterns, slow_names),
    *(raised_supervisors, unknown_users, sysctls),
)
"""Each yields warnings about a valid policy. Their codes never change; docs/lint.md describes them."""

_UNREAD = {"tag", "complex-key", "merge-key", "unknown-anchor"}
"""Faults that change a value: faults that follow from it are not reported."""

_SECTIONS: dict[str, nodes.Node] = {
    "vm": nodes.Mapping({}, 0, 0),
    "kernel": nodes.Mapping({}, 0, 0),
    "rules": nodes.Sequence([], 0, 0),
}
"""The value of a section with all lines commented out."""

REGEX_NODES_LIMIT = 4000
"""Maximum number of nodes of all regular expressions on names, some 200 expressions, to limit the time per
name."""

_TOO_MANY_REGEXES = Problem(
    "too-many-regexes",
    "the regular expressions on names up to here are too many, or too long",
    "write names and globs instead: a list of names takes less memory, and is faster",
)

_EMPTY_FILE = Problem(
    "empty-file",
    "the file is empty",
    "restore it: a full disk or a shell's > may have emptied it; if it should be empty, add a comment",
)


class Loaded(NamedTuple):
    """A policy, and its warnings."""

    policy: Policy
    warnings: tuple[Fault, ...]


def load(
    path: str,
    *,
    alone: bool = False,
    host: Host | None = None,
    trial: Trial | None = None,
    lints: bool = True,
) -> Loaded:
    """Read the policy `path` with all its layers, or standard input if it is `-`.

    `alone` reads only this file, and ignores who owns it. `host` are the facts of this host, to resolve
    values and to add warnings about it; without, the policy is read for any host. `trial` adds warnings about
    slow patterns (`lint.subject`). Without `lints`, most warnings are missing. Raises PolicyError with all
    faults of all files.
    """
    sources = read(path, alone=alone)
    policy, faults = parse(sources, host=host, users=Users() if host else None, trial=trial, lints=lints)
    return Loaded(policy._replace(path=path), faults)


def read(path: str, *, alone: bool = False) -> Sources:
    """Read the files of `load`."""
    return read_alone(path) if alone or path == STANDARD_INPUT else read_sources(path)


def parse(
    sources: Sources,
    *,
    host: Host | None = None,
    users: Users | None = None,
    trial: Trial | None = None,
    lints: bool = True,
) -> Loaded:
    """Return the policy of files that were read, for any host, or for one with these facts and `users`.

    Reads only the user database, subuid(5) and login.defs(5).

    Raises PolicyError with all faults of all files.
    """
    faults: list[Fault] = []
    roots: list[relations.Root] = []
    documents: list[PolicyFile] = []
    nobody, shared = Users(), dict[Terms, Terms]()
    asked, left_out = AskedHost(host), list[LeftOut]()
    for source, root, found, why_not in used(sources, asked):
        faults += found
        if not source.content.strip() and not why_not:
            faults.append(_EMPTY_FILE.at(source.file, severity="warning"))
        if root is None:
            continue
        only = root.entries.get("when") if host is None else None
        when = None if only is None else scalars.data(only.value)
        document, wrong = _validated(source, root, users or nobody, shared)
        unread = {fault.path for fault in found if fault.code in _UNREAD}
        faults += [fault for fault in wrong if fault.path not in unread]
        here = relations.Root(source.file, root, source.layer, when)
        if why_not:
            left_out.append(LeftOut(source.file, why_not))
            faults += relations.faults([here])
            continue
        roots.append(here)
        if document is not None:
            documents.append(document)
    faults += relations.faults(roots)
    faults += _too_many_regexes(documents)
    if any(fault.severity == "error" for fault in faults):
        raise PolicyError(cut(_in_order(faults, sources)))
    valid = tuple(documents)
    policy = compile_policy(valid, asked)
    policy = policy._replace(digest=digest(sources), left_out=tuple(left_out))
    if lints:
        faults += _warnings(Subject(policy, valid, users, trial))
    return Loaded(policy, tuple(_in_order(faults, sources)))


def _warnings(subject: Subject) -> list[Fault]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # patterns were compiled before
        return [found for check in _CHECKS for found in check(subject)]


class Used(NamedTuple):
    """A file of a policy: its keys and faults, and why it does not count, "" if it does."""

    source: Source
    root: nodes.Mapping | None
    faults: list[Fault]
    why_not: str


def used(sources: Sources, host: AskedHost) -> Iterator[Used]:
    """Yield each file of a policy. Those that cannot be parsed have no keys, nor have those replaced.

    A file counts on any host if the host is not known, but then it replaces none if it has `when:`.
    """
    names: dict[str, Source] = {}
    for source in sources:
        first = names.get(source.name)
        if first is not None:
            why_not = f"{'masked' if first.is_mask else 'replaced'} by {printable(first.file)}"
            yield Used(source, None, [], why_not)
            continue
        if source.is_mask:
            root, found, why_not = None, list[Fault](), "masks files of this name in lower layers"
        else:
            root, found = read_root(source)
            why_not = "" if source.fault is None else source.fault.message
        when = root.entries.get("when") if root is not None else None
        if when is not None and not host.is_any:
            why_not = _unmet(when.value, host)
        if source.name and (when is None or not (host.is_any or why_not)):
            names[source.name] = source
        yield Used(source, root, found, why_not)


def _unmet(node: nodes.Node, host: AskedHost) -> str:
    """Return why a file with this `when:` does not count on a host, "" if it does."""
    try:
        return "; ".join(unmet(When.model_validate(scalars.data(node)), host))
    except UnknownHostError as error:
        return f"{str(error).removesuffix('_kib')} is not known here"
    except ValidationError:
        return ""  # reported with the other faults


def _validated(
    source: Source, root: nodes.Mapping, users: Users, shared: dict[Terms, Terms]
) -> tuple[PolicyFile | None, list[Fault]]:
    """Return a file's content or faults; one rule at a time, because the models of all take 14 MiB."""
    rules, faults = [], list[Fault]()
    listed = nodes.items(root, "rules")
    rest = {key: entry for key, entry in root.entries.items() if key != "rules" or not listed}
    said = None
    try:
        said = model.Document.model_validate(scalars.data(root._replace(entries=rest)))
    except ValidationError as error:
        faults += validation.faults(source.file, root, error)
    for index, node in enumerate(listed):
        try:
            rule = model.Rule.model_validate(scalars.data(node))
            rules.append(compile_rule(rule, users, shared))
        except ValidationError as error:
            faults += validation.faults(source.file, root, error, ("rules", index))
    if said is None or faults:
        return None, faults
    return PolicyFile(source.file, source.layer, root, said, rules), faults


def compile_root(file: str, root: nodes.Mapping, said: model.Document, *, users: Users, host: Host) -> Policy:
    """Compile a policy that is part of another file. PolicyError: its keys contradict."""
    shared = dict[Terms, Terms]()
    rules = [compile_rule(rule, users, shared) for rule in said.rules or ()]
    document = PolicyFile(file, 0, root, said, rules)
    faults = [*relations.faults([relations.Root(file, root)]), *_too_many_regexes([document])]
    if faults:
        raise PolicyError(faults)
    asked = AskedHost(host)
    why_not = _unmet(root.entries["when"].value, asked) if "when" in root.entries else ""
    if why_not:
        return compile_policy((), asked)._replace(left_out=(LeftOut(file, why_not),))
    return compile_policy((document,), asked)


def _too_many_regexes(documents: Iterable[PolicyFile]) -> Iterator[Fault]:
    """Yield the fault of the first rule whose regular expressions on names exceed the number of nodes."""
    total = 0
    for document in documents:
        for index, (names, _) in enumerate(document.rules):
            total += sum(node_count(text_of(name)) for name in names if is_regex(name))
            if total > REGEX_NODES_LIMIT:
                here = nodes.locate(document.root, ("rules", index, "name"))
                yield _TOO_MANY_REGEXES.at(document.file, here.line, here.column, here.path)
                return


def read_root(
    source: Source, language: type[Language] = model.Document
) -> tuple[nodes.Mapping | None, list[Fault]]:
    """Return the keys of a file in this language, None if it cannot be parsed, and the faults."""
    if source.fault is not None:
        return None, [source.fault]
    root, faults = yaml_tree.parse(source.file, source.content)
    if root is None and faults:
        return None, faults
    if root is None or (isinstance(root, nodes.Scalar) and scalars.is_nothing(root)):
        return nodes.Mapping({}, *(root[2:] if root else (1, 1))), faults
    if not isinstance(root, nodes.Mapping):
        return None, [*faults, validation.not_a_mapping(source.file, root, language)]
    for key, section in _SECTIONS.items():  # all its lines may be commented out
        entry = root.entries.get(key)
        if entry and isinstance(entry.value, nodes.Scalar) and scalars.is_nothing(entry.value):
            root.entries[key] = entry._replace(value=section)
    return root, faults


def _in_order(faults: Iterable[Fault], sources: Sources) -> list[Fault]:
    """Return errors before warnings, which are not why a policy is invalid; each by its place."""
    order = {source.file: number for number, source in enumerate(sources)}
    return sorted(faults, key=lambda one: (one.severity == "warning", order[one.file], one.line, one.column))


def cut(faults: list[Fault]) -> list[Fault]:
    """Return the first of many faults, and how many more there are."""
    more = len(faults) - FAULTS_LIMIT
    if more <= 0:
        return faults
    last = Fault(faults[-1].file, 0, 0, "", f"{more:,} more errors are not shown", code="more-faults")
    return [*faults[:FAULTS_LIMIT], last]
