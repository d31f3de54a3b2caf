"""Reads case files: policies, processes and hosts, and what `oomguard test` should find."""

import os
import re
from itertools import count, islice
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import ValidationError

from oomguard.core.cgroup import in_user_slice, is_system_service, system_unit
from oomguard.core.host import Host
from oomguard.core.overcommit import ADMIN_RESERVE, HUGE_PAGES, RATIO, USER_RESERVE
from oomguard.core.policy import DEFAULT_PATH, FIRST_PERSON_UID, Layer, Policy, is_drop_in, layers
from oomguard.core.process import COMM_LENGTH, DELETED, Identity, Process, Program
from oomguard.core.sysctl import SYSCTLS
from oomguard.policy import load, scalars
from oomguard.policy.cases import case_model
from oomguard.policy.fault import Fault, PolicyError, Words, excerpt
from oomguard.policy.messages import validation
from oomguard.policy.model import Document
from oomguard.policy.nodes import Mapping, Node, Sequence
from oomguard.policy.source import Source, read_alone, read_layers
from oomguard.policy.users import Users

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Mapping as AnyMapping

    from oomguard.policy.cases.case_model import Case as Said
    from oomguard.policy.cases.case_model import CaseProcess

_FIRST_PID = 100
_FIRST_SERVICE_UID = 100
_KNOWN_USERS = {"root": 0, "daemon": 1, "bin": 2, "sys": 3, "nobody": 65534}
_DEFAULT_KIB = 16 << 20
_HUGE_PAGE_KIB = 2048
_DEFAULTS = {
    RATIO: 50,
    ADMIN_RESERVE: 8192,
    USER_RESERVE: 131072,
    "vm.oom_dump_tasks": 1,
    "vm.swappiness": 60,
    "vm.min_free_kbytes": 67584,
    "vm.watermark_scale_factor": 10,
    "vm.watermark_boost_factor": 15000,
    "vm.vfs_cache_pressure": 100,
    "vm.page-cluster": 3,
    "vm.max_map_count": 65530,
    "vm.mmap_min_addr": 65536,
    "vm.dirty_ratio": 20,
    "vm.dirty_background_ratio": 10,
    "vm.dirty_expire_centisecs": 3000,
    "vm.dirty_writeback_centisecs": 500,
    "vm.dirtytime_expire_seconds": 43200,
    "vm.extfrag_threshold": 500,
    "vm.compaction_proactiveness": 20,
    "vm.compact_unevictable_allowed": 1,
    "vm.min_unmapped_ratio": 1,
    "vm.min_slab_ratio": 5,
    "vm.stat_interval": 1,
    "vm.memory_failure_recovery": 1,
    "kernel.keys.root_maxkeys": 1_000_000,
    "kernel.keys.root_maxbytes": 25_000_000,
}
"""Kernel defaults that are not 0 (Linux 6.12); three of them depend on the host's memory."""

_ROOTS_FOLDERS = ("/bin/", "/lib", "/opt/", "/sbin/", "/usr/")
"""A folder in which only root changes executables."""


class Expected(NamedTuple):
    """What a case expects, and where. None: not compared."""

    line: int
    value: int | None = None
    rule: str | None = None
    refused: str | None = None


class Actor(NamedTuple):
    """A process of a case.

    `parent` is its position among the others, which come before it. `inherits`: it starts with its parent's
    value at that time. `original` is its value before oomguard set the current one.
    """

    process: Process
    parent: int | None = None
    inherits: bool = False
    original: int | None = None
    expected: Expected | None = None


class Case(NamedTuple):
    """One case. `meminfo` is in KiB, by the names of /proc/meminfo."""

    title: str
    line: int
    policy: "Policy"
    meminfo: dict[str, int]
    sysctls: dict[str, int]
    actors: tuple[Actor, ...]
    expected: dict[str, Expected]
    """By the full name of a sysctl."""


class CaseUsers(Users):
    """The users of a case file: those it names, a few that every host has, and services."""

    def __init__(self, uids: "AnyMapping[str, int]") -> None:
        super().__init__(os.devnull)
        self._uids = {**_KNOWN_USERS, **uids}
        taken = {*self._uids.values()}
        self._free = (uid for uid in count(_FIRST_SERVICE_UID) if uid not in taken)

    def uid(self, user: str | int) -> int:
        """Return the uid of a user; of one that is not known, the next free one that a service may have."""
        if isinstance(user, int):
            return user
        if user not in self._uids:
            self._uids[user] = next(self._free)
        return self._uids[user]

    def subuids(self, _user: str | int) -> list[int]:
        """Return no subordinate uids."""
        return []


def case_files(path: str) -> list[str]:
    """Return the case files of a path: all *.yaml below a folder, the path itself if there is none."""
    if not os.path.isdir(path):
        return [path]
    found = sorted(
        os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names if is_drop_in(name)
    )
    return found or [path]


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


_NO_CASES = Words("missing-file", "no case files below this folder", "their names end in .yaml")


def parse_cases(source: Source, policy: str | None = None) -> tuple[Case, ...]:
    """Return the cases of a file that was read, and read the policies that it names. As `load_cases`."""
    root, faults = load.read_root(source, case_model.CaseFile)
    if root is None:
        raise PolicyError(faults)
    try:
        said = case_model.CaseFile.model_validate(scalars.data(root))
    except ValidationError as error:
        faults += validation.faults(source.file, root, error, language=case_model.CaseFile)
    if faults:
        raise PolicyError(load.cut(sorted(faults, key=lambda fault: (fault.line, fault.column))))
    reader = _Reader(source.file, CaseUsers(said.users or {}), policy)
    nodes = _items(root, "cases")
    cases = tuple(reader.case(one, said, node, root) for one, node in zip(said.cases, nodes, strict=True))
    if reader.faults:
        faults = list(dict.fromkeys(reader.faults))
        faults.sort(key=lambda one: (one.file != source.file, one.file, *one[1:3]))
        raise PolicyError(load.cut(faults))
    return cases


class _Reader:
    """Turns the cases of one file into values, and collects their faults."""

    def __init__(self, file: str, users: CaseUsers, policy: str | None) -> None:
        self.faults: list[Fault] = []
        self._file = file
        self._users = users
        self._policy = policy
        self._policies: dict[str, list[Policy]] = {}
        """By path, a policy for each kind of host that it differs for; none if it is not valid."""

    def case(self, said: "Said", whole: case_model.CaseFile, node: Mapping, root: Mapping) -> Case:
        """Return one case."""
        start = node.entries["case"].line
        told = [host for host in (whole.host, said.host) if host is not None]
        facts = {key: value for one in told for key, value in one if value is not None}
        sysctls = {
            f"{section}.{knob}": value
            for one in told
            for section, knobs in one.sysctls or ()
            for knob, value in knobs or ()
            if value is not None
        }
        meminfo = _meminfo(facts, sysctls)
        host = _host(facts, meminfo)
        policy = self._policy_of(said, whole, node, root, host) or Policy()
        expected = dict(_expected_sysctls(said, node))
        if not expected and all(one.expect is None for one in said.processes or ()):
            self._fault(_NOTHING_EXPECTED, node)
        actors = tuple(self._actors(said, node))
        names = {setting.name for setting in policy.sysctls} | expected.keys() | _DEFAULTS.keys()
        there = {name: _DEFAULTS.get(name, 0) for name in names if _has_sysctl(host.kernel or "", name)}
        return Case(said.case, start, policy, meminfo, there | sysctls, actors, expected)

    def _fault(self, words: Words, node: Node) -> None:
        self.faults.append(words.at(self._file, node.line, node.column, ""))

    def _policy_of(
        self, said: "Said", whole: case_model.CaseFile, node: Mapping, root: Mapping, host: Host
    ) -> Policy | None:
        if self._policy is not None:
            return self._read(self._policy, host)
        owner, wanted = (node, said.policy) if said.policy is not None else (root, whole.policy)
        if wanted is None:
            self._fault(_NO_POLICY, root)
            return None
        if isinstance(wanted, str):
            return self._read(_beside(self._file, wanted), host)
        return self._written(wanted, _mapping(owner, "policy"), host)

    def _written(self, said: Document, node: Mapping, host: Host) -> Policy | None:
        """Return a policy that is part of the case file."""
        try:
            return _portable(load.compile_root(self._file, node, said, users=self._users, host=host))
        except PolicyError as error:
            self.faults += error.faults
            return None

    def _read(self, path: str, host: Host) -> Policy | None:
        known = self._policies.get(path)
        for policy in known or ():
            if not host.differs(policy.facts):
                return policy
        if known == []:
            return None
        found = self._policies.setdefault(path, [])
        try:
            loaded = load.parse(read_layers(_layers(path), anybodys=True), host=host, users=self._users)
        except PolicyError as error:
            self.faults += error.faults
            return None
        found.append(_portable(loaded.policy))
        return found[-1]

    def _actors(self, said: "Said", node: Mapping) -> "Iterator[Actor]":
        """Yield the processes, parents before their children."""
        told = list(zip(said.processes or (), _items(node, "processes"), strict=True))
        pids = self._pids(told)
        called: dict[int | str, list[int]] = {}
        for at, (one, _) in enumerate(told):
            called.setdefault(one.name, []).append(at)
            if one.pid is not None:
                called.setdefault(one.pid, []).append(at)
        parents = [self._parent(one, at, place, called) for at, (one, place) in enumerate(told)]
        order: dict[int, None] = {}
        for at in range(len(told)):
            line: dict[int, None] = {}
            above: int | None = at
            while above is not None and above not in order and above not in line:
                line[above] = None
                above = parents[above]
            if above in line:
                self._fault(_OWN_ANCESTOR, told[at][1])
                return
            order |= dict.fromkeys(reversed(line))
        places = {at: place for place, at in enumerate(order)}
        for at in order:
            one, place = told[at]
            parent = parents[at]
            process = self._process(one, pids[at], 1 if parent is None else pids[parent])
            if one.cgroup is not None and (one.unit is not None or one.user_unit is not None):
                self._fault(_UNIT_AND_CGROUP, place.entries["cgroup"].value)
            if one.container and (in_user_slice(process.cgroup) or is_system_service(process.cgroup)):
                self._fault(_NO_CONTAINER_THERE, place.entries["container"].value)
            inherits = parent is not None and one.oom_score_adj is None
            where = None if parent is None else places[parent]
            yield Actor(process, where, inherits, one.original, _expected(one, place))

    def _pids(self, told: "list[tuple[CaseProcess, Mapping]]") -> list[int]:
        taken = set()
        for one, node in told:
            if one.pid in taken:
                message = f"another process of this case has the pid {one.pid}"
                self._fault(Words("same-pid", message, "remove it, or choose another"), node)
            if one.pid is not None:
                taken.add(one.pid)
        free = (pid for pid in range(_FIRST_PID, case_model.PID_MAX) if pid not in taken)
        return [next(free) if one.pid is None else one.pid for one, _ in told]

    def _parent(
        self, one: "CaseProcess", at: int, place: Mapping, called: "AnyMapping[int | str, list[int]]"
    ) -> int | None:
        """Return the position of a process's parent, None if it has none or the parent is unknown."""
        if one.parent is None:
            return None
        found = [*islice((other for other in called.get(one.parent, ()) if other != at), 2)]
        if len(found) == 1:
            return found[0]
        shown, what = excerpt(str(one.parent)), "pid" if isinstance(one.parent, int) else "name"
        several = f"several processes of this case are called {shown}"
        none = f"no other process of this case has that {what}, got {shown}"
        words = (
            Words("several-parents", several, "give it a pid, and write that")
            if found
            else Words("no-parent", none, "add it to the list")
        )
        self._fault(words, place.entries["parent"].value)
        return None

    def _process(self, said: "CaseProcess", pid: int, parent: int) -> Process:
        uid = self._users.uid(said.user or 0)
        cgroup = said.cgroup or _cgroup(said, uid)
        name = said.name.encode()
        arguments = said.cmdline if isinstance(said.cmdline, list) else (said.cmdline or said.name).split(" ")
        return Process(
            Identity(pid, 0),
            name[:COMM_LENGTH],
            parent_pid=parent,
            arguments=(name,) if said.cmdline is None else tuple(one.encode() for one in arguments),
            uid=uid,
            saved=None if said.saved_user is None else self._users.uid(said.saved_user),
            has_dynamic_uid=said.dynamic_user,
            cgroup=cgroup,
            cgroup_is_roots=not _is_delegated(cgroup) if said.delegated is None else not said.delegated,
            exe=said.exe,
            program=None if said.exe is None else _program(said.exe),
            in_pid_namespace=said.container or said.sandbox,
            in_container=said.container,
            in_user_namespace=said.user_namespace,
            oom_score_adj=said.oom_score_adj or 0,
        )


def _beside(file: str, path: str) -> str:
    """Return a path relative to a file, without `..` if that means the same."""
    joined = os.path.join(os.path.dirname(file), path)
    short = os.path.normpath(joined)
    return short if os.path.realpath(short) == os.path.realpath(joined) else joined


def _layers(path: str) -> tuple[Layer, ...]:
    """Return where a policy is read from: if it is a folder, from all layers of a host with that root."""
    if not os.path.isdir(path):
        return layers(path)
    return tuple(layer._replace(path=f"{path.rstrip('/')}{layer.path}") for layer in layers(DEFAULT_PATH))


def _portable(policy: "Policy") -> "Policy":
    """Return the policy as it is on any host."""
    return policy._replace(first_person_uid=FIRST_PERSON_UID)


def _mapping(node: Mapping, key: str) -> Mapping:
    found = node.entries[key].value
    assert isinstance(found, Mapping)
    return found


def _items(node: Mapping, key: str) -> list[Mapping]:
    member = node.entries.get(key)
    listed = member.value if member is not None else None
    return [one for one in listed.items if isinstance(one, Mapping)] if isinstance(listed, Sequence) else []


def _cgroup(said: "CaseProcess", uid: int) -> str:
    """Return the cgroup of a unit, where systemd puts it."""
    user = f"/user.slice/user-{uid}.slice"
    if said.user_unit is not None:
        return f"{user}/user@{uid}.service/app.slice/{said.user_unit}"
    if said.unit is None:
        return "/"
    if said.unit == "init.scope":
        return "/init.scope"
    is_users = said.unit.startswith("session-") and said.unit.endswith(".scope")
    if said.unit.startswith("user@"):
        return f"/user.slice/user-{said.unit[5:].partition('.')[0]}.slice/{said.unit}"
    return f"{user}/{said.unit}" if is_users else f"/system.slice/{said.unit}"


def _is_delegated(cgroup: str) -> bool:
    """Return whether a cgroup is below a user's own service manager."""
    unit = system_unit(cgroup)
    return unit.startswith("user@") and not cgroup.endswith(f"/{unit}")


def _program(exe: str) -> Program:
    path = exe.removesuffix(DELETED)
    is_hosts = path == exe
    return Program(path, is_hosts, is_hosts and path.startswith(_ROOTS_FOLDERS))


def _expected(said: "CaseProcess", node: Mapping) -> Expected | None:
    if said.expect is None:
        return None
    line = node.entries["expect"].line
    if isinstance(said.expect, int):
        return Expected(line, said.expect)
    return Expected(line, said.expect.oom_score_adj, said.expect.rule, said.expect.refused)


def _expected_sysctls(said: "Said", node: Mapping) -> "Iterator[tuple[str, Expected]]":
    """Yield what is expected of sysctls, in the order of the file."""
    for section, told in said.expect or ():
        if told is None:
            continue
        for knob, member in _mapping(_mapping(node, "expect"), section).entries.items():
            value = getattr(told, knob)
            if isinstance(value, int):
                yield f"{section}.{knob}", Expected(member.line, value)
            else:
                yield f"{section}.{knob}", Expected(member.line, value.value, None, value.refused)


def _meminfo(facts: "AnyMapping[str, Any]", sysctls: "AnyMapping[str, int]") -> dict[str, int]:
    def amount(key: str, default: int) -> int:
        return facts[key].size_bytes >> 10 if key in facts else default

    total, pages = amount("memory", _DEFAULT_KIB), sysctls.get(HUGE_PAGES, 0)
    return {
        "MemTotal": total,
        "MemAvailable": amount("available", total),
        "SwapTotal": amount("swap", 0),
        "Committed_AS": amount("committed", 0),
        "HugePages_Total": pages,
        "Hugepagesize": _HUGE_PAGE_KIB,
        "Hugetlb": amount("huge_pages", 0) + pages * _HUGE_PAGE_KIB,
    }


def _host(facts: "AnyMapping[str, Any]", meminfo: dict[str, int]) -> Host:
    hugetlb = meminfo["Hugetlb"]
    return Host(
        memory_kib=meminfo["MemTotal"],
        swap_kib=meminfo["SwapTotal"],
        hugetlb_kib=hugetlb,
        other_hugetlb_kib=hugetlb - meminfo["HugePages_Total"] * _HUGE_PAGE_KIB,
        huge_page_kib=_HUGE_PAGE_KIB,
        hostname=facts.get("hostname", "localhost"),
        kernel=facts.get("kernel") or None,
        is_container=facts.get("container", False),
    )


def _has_sysctl(kernel: str, name: str) -> bool:
    """Return whether a kernel of this release has a sysctl; "" has all."""
    since = SYSCTLS[name].since
    return not (kernel and since) or _version(kernel) >= _version(since)


def _version(release: str) -> list[int]:
    return [int(number) for number in re.findall("[0-9]+", release)[:2]]


_NO_POLICY = Words(
    "no-policy", "names no policy to test", "add policy: FILE at the top of the file, or --policy FILE"
)
_NOTHING_EXPECTED = Words(
    "nothing-expected", "expects nothing, so it cannot fail", "add expect: to a process, as in expect: -900"
)
_UNIT_AND_CGROUP = Words("unit-and-cgroup", "has its unit in it", "remove unit and user_unit")
_NO_CONTAINER_THERE = Words(
    "no-container",
    "no runtime puts a container there: below user.slice, or into a service's own cgroup, it is a sandbox",
    "write sandbox: true instead, or the container's own path as cgroup",
)
_OWN_ANCESTOR = Words("own-ancestor", "is its own ancestor", "change one parent")
