"""From valid files to the policy that the daemon applies."""

import hashlib
import os
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

from oomguard.core.host import AskedHost, UnknownHostError
from oomguard.core.name_regex import marked
from oomguard.core.overcommit import HUGE_PAGES, KBYTES
from oomguard.core.policy import Policy, PressureLimit, SysctlSetting
from oomguard.core.rule import CONDITIONS, Rule, Terms, Value
from oomguard.core.sysctl import SYSCTLS
from oomguard.policy import model
from oomguard.policy.language import many
from oomguard.policy.nodes import Mapping, items
from oomguard.policy.resolve import Resolved, commit_limit, resolve
from oomguard.policy.source import Source
from oomguard.policy.sysctl_model import COMMIT_LIMIT, Knob, exclusives
from oomguard.policy.users import Users, first_person_uid

_SETTINGS = {
    "commit_headroom": "commit_headroom_percent",
    "resync_interval": "resync_interval_seconds",
    **{key: key for key in ("force", "pressure", "recorder")},
}
"""The fields of a policy for the keys outside of any section."""

_OF_TERMS = tuple(row for row in CONDITIONS if row.key not in ("name", "user"))


class PolicyFile(NamedTuple):
    """A valid policy file: the place of each key, its content, and the names and terms of its rules."""

    file: str
    layer: int
    root: Mapping
    said: model.Document
    rules: list[tuple[tuple[bytes, ...], Terms]]


_Said = tuple[Knob, str, int]
"""The value of a sysctl as the file has it, and where: file and line."""


def compile_rule(
    said: model.Rule, users: Users, shared: dict[Terms, Terms]
) -> tuple[tuple[bytes, ...], Terms]:
    """Return the names of a rule, and its terms, which it shares with rules that have equal ones."""
    terms = _terms(said, users)
    listed: tuple[str | model.NameRegex, ...] = many(said.name)
    names = [name.encode() if isinstance(name, str) else marked(name.regex) for name in listed]
    return tuple(names), shared.setdefault(terms, terms)


def compile_policy(documents: tuple[PolicyFile, ...], host: AskedHost) -> Policy:
    """Return the policy of valid files on a host: rules in file order, sysctls in the order of the table.

    The first file that sets a value wins, and removes what excludes it from later ones. Sysctls that
    depend on facts that are not known are only counted.
    """
    settings, unresolved = resolved(documents, host)
    said = {
        field: value
        for document in reversed(documents)
        for key, field in _SETTINGS.items()
        if (value := getattr(document.said, key)) is not None
    }
    return Policy(
        sysctls=settings,
        rules=tuple(_rules(documents)),
        pressure=_pressure(said.pop("pressure", None)),
        files=tuple(one.file for one in documents),
        first_person_uid=first_person_uid(),
        facts=host.facts,
        unresolved=unresolved,
        **said,
    )


def digest(sources: tuple[Source, ...]) -> str:
    """Return the SHA-256 of the absolute names and the contents of the policy files, in hexadecimal."""
    total = hashlib.sha256()
    for source in (one for one in sources if one.fault is None):
        file = source.file if source.file.startswith("<") else os.path.abspath(source.file)
        for part in (file.encode("utf-8", "surrogateescape"), source.content):
            total.update(len(part).to_bytes(8, "big"))
            total.update(part)
    return total.hexdigest()


def resolved(documents: tuple[PolicyFile, ...], host: AskedHost) -> tuple[tuple[SysctlSetting, ...], int]:
    """Return the sysctls in the order of the table, and how many are left out because facts are not known.

    On a host, a group is left out as a whole: strict accounting without its limit would be another one.
    """
    said: dict[str, _Said] = {}
    for name, here in (one for document in documents for one in _sysctls(document)):
        if said.keys().isdisjoint(exclusives(name)):
            said.setdefault(name, here)
    found: dict[str, SysctlSetting] = {}
    unknown: set[str] = set()
    pages: Resolved | None = None
    for key in (*SYSCTLS, COMMIT_LIMIT):
        if key not in said:
            continue
        value, file, line = said[key]
        name = KBYTES if key == COMMIT_LIMIT else key
        try:
            one = commit_limit(value, pages, host) if key != name else resolve(SYSCTLS[name], value, host)
        except UnknownHostError:
            unknown.add(SYSCTLS[name].group or name)
            continue
        pages = one if name == HUGE_PAGES else pages
        found[name] = SysctlSetting(name, one.number, file, line, one.kind, one.said)
    kept = [found[name] for name in SYSCTLS if name in found]
    if not host.is_any:
        kept = [setting for setting in kept if SYSCTLS[setting.name].group not in unknown]
    return tuple(kept), len(said) - len(kept)


def _sysctls(document: PolicyFile) -> Iterator[tuple[str, _Said]]:
    for section in ("vm", "kernel"):
        said = getattr(document.said, section)
        if said is None:
            continue
        node = document.root.entries[section].value
        assert isinstance(node, Mapping)
        for knob, value in said:
            if value is not None:
                yield f"{section}.{knob}", (value, document.file, node.entries[knob].line)


def _rules(documents: tuple[PolicyFile, ...]) -> Iterator[Rule]:
    number = 0
    for document in documents:
        for (names, terms), node in zip(document.rules, items(document.root, "rules"), strict=True):
            yield Rule(number, names, terms, document.file, node.line)
            number += 1


def _terms(rule: model.Rule, users: Users) -> Terms:
    listed: dict[str, Any] = {
        row.field: many(getattr(rule, row.key)) for row in _OF_TERMS if row.key in rule.model_fields_set
    }
    if rule.user is not None:
        named: tuple[str | int, ...] = many(rule.user)
        listed["users"] = tuple(str(user) for user in named)
        listed["uids"] = tuple(uid for user in named if (uid := users.uid(user)) is not None)
        listed["subuids"] = tuple(bound for user in named for bound in users.subuids(user))
    return Terms(
        _value(rule.oom_score_adj),
        scope=rule.scope,
        children=rule.children,
        trust=rule.trust,
        containers=rule.containers,
        **listed,
    )


def _value(said: int | str | model.Bound) -> Value:
    if isinstance(said, int):
        return Value("exact", said)
    if isinstance(said, str):
        return Value("keep")
    if said.at_most is not None:
        return Value("at_most", said.at_most)
    return Value("at_least", said.at_least or 0)  # `relations` refuses a bound that is neither


def _pressure(said: model.Pressure | Literal[False] | None) -> PressureLimit:
    if said is None:
        return PressureLimit()
    if said is False:
        return PressureLimit(some_percent=0)
    return PressureLimit(int(said.some.rstrip("%")), int(said.over.rstrip("s")))
