"""Reads case files: policies, processes and hosts, and what `oomguard test` should find."""

import os
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

from pydantic import ValidationError

from oomguard.core.host import Host
from oomguard.core.policy import DEFAULT_PATH, FIRST_PERSON_UID, Layer, Policy, is_drop_in, layers
from oomguard.core.sysctl import after_writing
from oomguard.core.text import printable
from oomguard.policy import load, scalars
from oomguard.policy.cases import case_model
from oomguard.policy.cases.actors import Actor, Expected, read_actors
from oomguard.policy.cases.case_host import DEFAULTS, CaseUsers, has_sysctl, host_of, meminfo_of
from oomguard.policy.cases.case_model import Case as CaseModel
from oomguard.policy.fault import Fault, PolicyError, Problem
from oomguard.policy.messages import validation
from oomguard.policy.model import Document
from oomguard.policy.nodes import Mapping, Node, items
from oomguard.policy.source import STANDARD_INPUT, Source, Sources, read_alone, read_layers


class Case(NamedTuple):
    """One case. `meminfo` is in KiB, by the names of /proc/meminfo."""

    title: str
    line: int
    policy: Policy
    meminfo: dict[str, int]
    sysctls: dict[str, int]
    actors: tuple[Actor, ...]
    expected: dict[str, Expected]
    """By the full name of a sysctl."""


def case_files(path: str) -> list[str]:
    """Return the case files of a path: all *.yaml below a folder, the path itself if there is none.

    PolicyError: a folder cannot be listed, which may have more.
    """
    if not os.path.isdir(path):
        return [path]
    walk = os.walk(path, onerror=_refuse_folder)
    found = sorted(
        os.path.join(folder, name) for folder, _, names in walk for name in names if is_drop_in(name)
    )
    return found or [path]


def _refuse_folder(error: OSError) -> None:
    why = Problem("unreadable", f"cannot be read: {error.strerror}", "make the folder readable")
    raise PolicyError([why.at(error.filename)]) from error


def load_cases(path: str, policy: str | None = None) -> tuple[Case, ...]:
    """Read a case file; `policy` replaces the policies that it names.

    PolicyError: the case file or a policy has faults.
    """
    if os.path.isdir(path):
        raise PolicyError([_NO_CASES.at(path)])
    source = read_alone(path)[0]
    if source.fault is not None and source.fault.code == "missing-file":
        hint = "write the path of a case file, or of a folder of them"
        raise PolicyError([source.fault._replace(hint=hint)])
    return parse_cases(source, policy)


_IS_POLICY = Problem(
    "wrong-type", "is a policy, not a case file", "to test it, run: oomguard test --policy POLICY CASES"
)
_NO_CASES = Problem("missing-file", "no case files below this folder", "their names end in .yaml")


def parse_cases(source: Source, policy: str | None = None) -> tuple[Case, ...]:
    """Return the cases of a file that was read, and read the policies that it names. As `load_cases`."""
    root, faults = load.read_root(source, case_model.CaseFile)
    if root is None:
        raise PolicyError(faults)
    if "cases" not in root.entries and not root.entries.keys().isdisjoint(("rules", "vm", "kernel")):
        raise PolicyError([_IS_POLICY.at(source.file, root.line, root.column)])
    try:
        model = case_model.CaseFile.model_validate(scalars.data(root))
    except ValidationError as error:
        faults += validation.faults(source.file, root, error, language=case_model.CaseFile)
    if faults:
        raise PolicyError(load.cut(sorted(faults, key=lambda fault: (fault.line, fault.column))))
    reader = _Reader(source.file, model, root, policy)
    nodes = _items(root, "cases")
    cases = tuple(reader.case(one, node) for one, node in zip(model.cases, nodes, strict=True))
    if reader.faults:
        faults = list(dict.fromkeys(reader.faults))
        faults.sort(key=lambda one: (one.file != source.file, one.file, *one[1:3]))
        raise PolicyError(load.cut(faults))
    return cases


class _Reader:
    """Turns the cases of one file into values, and collects their faults."""

    def __init__(self, file: str, model: case_model.CaseFile, root: Mapping, policy: str | None) -> None:
        self.faults: list[Fault] = []
        self._file, self._model, self._root = file, model, root
        self._users = CaseUsers(model.users or {})
        self._policy = policy
        self._policies: dict[str, list[Policy]] = {}
        """By path, a policy for each kind of host that it differs for; none if it is not valid."""

    def case(self, model: CaseModel, node: Mapping) -> Case:
        """Return one case."""
        start = node.entries["case"].line
        hosts = [host for host in (self._model.host, model.host) if host is not None]
        facts = {key: value for one in hosts for key, value in one if value is not None}
        sysctls = {
            f"{section}.{knob}": value
            for one in hosts
            for section, knobs in one.sysctls or ()
            for knob, value in knobs or ()
            if value is not None
        }
        meminfo = meminfo_of(facts, sysctls)
        host = host_of(facts, meminfo)
        policy = self._policy_of(model, node, host) or Policy()
        expected = dict(_expected_sysctls(model, node))
        if not expected and all(one.expect is None for one in model.processes or ()):
            self._fault(_NOTHING_EXPECTED, node)
        processes = list(zip(model.processes or (), _items(node, "processes"), strict=True))
        actors = tuple(read_actors(processes, self._users, self._fault))
        names = {setting.name for setting in policy.sysctls} | expected.keys() | DEFAULTS.keys()
        there = {name: DEFAULTS.get(name, 0) for name in names if has_sysctl(host.kernel or "", name)}
        there = after_writing(there, {name: value for name, value in sysctls.items() if value}) | sysctls
        return Case(model.case, start, policy, meminfo, there, actors, expected)

    def _fault(self, problem: Problem, node: Node) -> None:
        self.faults.append(problem.at(self._file, node.line, node.column, ""))

    def _policy_of(self, model: CaseModel, node: Mapping, host: Host) -> Policy | None:
        if self._policy is not None:
            return self._read(self._policy, host)
        owner, wanted = node, model.policy
        if wanted is None:
            owner, wanted = self._root, self._model.policy
        if wanted is None:
            self._fault(_NO_POLICY, owner)
            return None
        if isinstance(wanted, str):
            place = f"{printable(self._file)}:{owner.entries['policy'].line}"
            hint = f"{place} names it, with a path relative to its own folder"
            return self._read(_beside(self._file, wanted), host, hint)
        return self._written(wanted, _mapping(owner, "policy"), host)

    def _written(self, model: Document, node: Mapping, host: Host) -> Policy | None:
        """Return a policy that is part of the case file."""
        try:
            return _portable(load.compile_root(self._file, node, model, users=self._users, host=host))
        except PolicyError as error:
            self.faults += error.faults
            return None

    def _read(self, path: str, host: Host, missing: str = "") -> Policy | None:
        """Return the policy of a file; `missing` is the hint if there is none, "" for the usual one."""
        known = self._policies.get(path)
        for policy in known or ():
            if not host.differs(policy.facts):
                return policy
        if known == []:
            return None
        found = self._policies.setdefault(path, [])
        sources = _standard_input() if path == STANDARD_INPUT else read_layers(_layers(path), anybodys=True)
        try:
            loaded = load.parse(sources, host=host, users=self._users)
        except PolicyError as error:
            self.faults += (
                one._replace(hint=missing) if missing and one.code == "missing-file" else one
                for one in error.faults
            )
            return None
        found.append(_portable(loaded.policy))
        return found[-1]


def _beside(file: str, path: str) -> str:
    """Return a path relative to a file, without `..` if that means the same."""
    joined = os.path.join(os.path.dirname(file), path)
    short = os.path.normpath(joined)
    return short if os.path.realpath(short) == os.path.realpath(joined) else joined


@cache
def _standard_input() -> Sources:
    """Return what can be read only once, for all case files and hosts."""
    return read_alone(STANDARD_INPUT)


def _layers(path: str) -> tuple[Layer, ...]:
    """Return where a policy is read from: if it is a folder, from all layers of a host with that root."""
    if not os.path.isdir(path):
        return layers(path)
    return tuple(layer._replace(path=f"{path.rstrip('/')}{layer.path}") for layer in layers(DEFAULT_PATH))


def _portable(policy: Policy) -> Policy:
    """Return the policy as it is on any host."""
    return policy._replace(first_person_uid=FIRST_PERSON_UID)


def _mapping(node: Mapping, key: str) -> Mapping:
    found = node.entries[key].value
    assert isinstance(found, Mapping)
    return found


def _items(node: Mapping, key: str) -> list[Mapping]:
    return [one for one in items(node, key) if isinstance(one, Mapping)]


def _expected_sysctls(model: CaseModel, node: Mapping) -> Iterator[tuple[str, Expected]]:
    """Yield what is expected of sysctls, in the order of the file."""
    for section, knobs in model.expect or ():
        if knobs is None:
            continue
        for knob, member in _mapping(_mapping(node, "expect"), section).entries.items():
            value = getattr(knobs, knob)
            if isinstance(value, int):
                yield f"{section}.{knob}", Expected(member.line, value)
            else:
                yield f"{section}.{knob}", Expected(member.line, value.value, None, value.refused)


_NO_POLICY = Problem(
    "no-policy", "names no policy to test", "add policy: FILE at the top of the file, or --policy FILE"
)
_NOTHING_EXPECTED = Problem(
    "nothing-expected", "expects nothing, so it cannot fail", "add expect: to a process, as in expect: -900"
)
