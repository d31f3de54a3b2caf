"""The processes of a case, and what it expects of each."""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import NamedTuple

from oomguard.core.cgroup import is_without_containers, system_unit
from oomguard.core.process import COMM_LENGTH, DELETED, Identity, Process, Program
from oomguard.policy.cases.case_host import CaseUsers
from oomguard.policy.cases.case_model import PID_MAX, CaseProcess
from oomguard.policy.fault import Problem, excerpt
from oomguard.policy.nodes import Mapping, Node

CaseProcesses = list[tuple[CaseProcess, Mapping]]
Refuse = Callable[[Problem, Node], None]

_FIRST_PID = 100
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

    `inherits`: it starts with the value that its parent, which comes before it, has then. `original` is its
    value before oomguard set the current one.
    """

    process: Process
    inherits: bool = False
    original: int | None = None
    expected: Expected | None = None


def read_actors(processes: CaseProcesses, users: CaseUsers, refuse: Refuse) -> Iterator[Actor]:
    """Yield the processes of a case, parents before their children; `refuse` gets the faults."""
    pids = _pids(processes, refuse)
    parents = _parents(processes, refuse)
    order, own_ancestor = _parents_first(parents)
    if own_ancestor is not None:
        refuse(_OWN_ANCESTOR, processes[own_ancestor][1])
        return
    for at in order:
        (one, node), parent = processes[at], parents[at]
        process = _process(one, pids[at], 1 if parent is None else pids[parent], users)
        if one.cgroup is not None and (one.unit is not None or one.user_unit is not None):
            refuse(_UNIT_AND_CGROUP, node.entries["cgroup"].value)
        if one.container and is_without_containers(process.cgroup):
            refuse(_NO_CONTAINER_THERE, node.entries["container"].value)
        inherits = parent is not None and one.oom_score_adj is None
        yield Actor(process, inherits, one.original, _expected(one, node))


def _pids(processes: CaseProcesses, refuse: Refuse) -> list[int]:
    taken = set()
    for one, node in processes:
        if one.pid in taken:
            message = f"another process of this case has the pid {one.pid}"
            refuse(Problem("same-pid", message, "remove it, or choose another"), node)
        if one.pid is not None:
            taken.add(one.pid)
    free = (pid for pid in range(_FIRST_PID, PID_MAX) if pid not in taken)
    return [next(free) if one.pid is None else one.pid for one, _ in processes]


def _parents(processes: CaseProcesses, refuse: Refuse) -> list[int | None]:
    """Return the position of each process's parent, None if it has none or the parent is unknown."""
    called: dict[int | str | None, list[int]] = {}
    for at, (one, _) in enumerate(processes):
        called.setdefault(one.name, []).append(at)
        called.setdefault(one.pid, []).append(at)
    parents: list[int | None] = []
    for at, (one, node) in enumerate(processes):
        found = [*islice((other for other in called.get(one.parent, ()) if other != at), 2)]
        if one.parent is not None and len(found) != 1:
            refuse(_no_parent(one.parent, is_called=bool(found)), node.entries["parent"].value)
        parents.append(found[0] if one.parent is not None and len(found) == 1 else None)
    return parents


def _no_parent(parent: int | str, *, is_called: bool) -> Problem:
    shown, what = excerpt(str(parent)), "pid" if isinstance(parent, int) else "name"
    if is_called:
        several = f"several processes of this case are called {shown}"
        return Problem("several-parents", several, "give it a pid, and write that")
    return Problem(
        "no-parent", f"no other process of this case has that {what}, got {shown}", "add it to the list"
    )


def _parents_first(parents: list[int | None]) -> tuple[list[int], int | None]:
    """Return the positions in order, and that of a process that is its own ancestor, None if none is."""
    order: dict[int, None] = {}
    for at in range(len(parents)):
        line: dict[int, None] = {}
        above: int | None = at
        while above is not None and above not in order and above not in line:
            line[above] = None
            above = parents[above]
        if above in line:
            return [], at
        order |= dict.fromkeys(reversed(line))
    return [*order], None


def _process(model: CaseProcess, pid: int, parent: int, users: CaseUsers) -> Process:
    uid = users.uid(model.user or 0)
    cgroup = model.cgroup or _cgroup(model, uid)
    name = model.name.encode()
    arguments = model.cmdline if isinstance(model.cmdline, list) else (model.cmdline or model.name).split(" ")
    return Process(
        Identity(pid, 0),
        name[:COMM_LENGTH],
        parent_pid=parent,
        arguments=(name,) if model.cmdline is None else tuple(one.encode() for one in arguments),
        uid=uid,
        saved=None if model.saved_user is None else users.uid(model.saved_user),
        has_dynamic_uid=model.dynamic_user,
        cgroup=cgroup,
        cgroup_is_roots=not _is_delegated(cgroup) if model.delegated is None else not model.delegated,
        exe=model.exe,
        program=None if model.exe is None else _program(model.exe),
        in_pid_namespace=model.container or model.sandbox,
        in_container=model.container,
        in_user_namespace=model.user_namespace,
        oom_score_adj=model.oom_score_adj or 0,
    )


def _cgroup(model: CaseProcess, uid: int) -> str:
    """Return the cgroup of a unit, where systemd puts it."""
    user = f"/user.slice/user-{uid}.slice"
    if model.user_unit is not None:
        return f"{user}/user@{uid}.service/app.slice/{model.user_unit}"
    if model.unit is None:
        return "/"
    if model.unit == "init.scope":
        return "/init.scope"
    is_users = model.unit.startswith("session-") and model.unit.endswith(".scope")
    if model.unit.startswith("user@"):
        return f"/user.slice/user-{model.unit[5:].partition('.')[0]}.slice/{model.unit}"
    return f"{user}/{model.unit}" if is_users else f"/system.slice/{model.unit}"


def _is_delegated(cgroup: str) -> bool:
    """Return whether a cgroup is below a user's own service manager."""
    unit = system_unit(cgroup)
    return unit.startswith("user@") and not cgroup.endswith(f"/{unit}")


def _program(exe: str) -> Program:
    path = exe.removesuffix(DELETED)
    is_hosts = path == exe
    return Program(path, is_hosts, is_hosts and path.startswith(_ROOTS_FOLDERS))


def _expected(model: CaseProcess, node: Mapping) -> Expected | None:
    if model.expect is None:
        return None
    line = node.entries["expect"].line
    if isinstance(model.expect, int):
        return Expected(line, model.expect)
    return Expected(line, model.expect.oom_score_adj, model.expect.rule, model.expect.refused)


_UNIT_AND_CGROUP = Problem("unit-and-cgroup", "has its unit in it", "remove unit and user_unit")
_NO_CONTAINER_THERE = Problem(
    "no-container",
    "no runtime puts a container there: below user.slice, or into a service's own cgroup, it is a sandbox",
    "write sandbox: true instead, or the container's own path as cgroup",
)
_OWN_ANCESTOR = Problem("own-ancestor", "is its own ancestor", "change one parent")
