"""The kernel's lines about a kill: who died, and where memory had run out (mm/oom_kill.c).

A name is raw in them, and its process chose it: what follows it is found from the end of the line.
"""

import re
from typing import Literal, NamedTuple

_COMM_BYTES = 15


class Kill(NamedTuple):
    """A process that the kernel killed, as its `Killed process` line has it; None is what it does not say.

    `message` is what the line begins with: `Out of memory`, `Memory cgroup out of memory`, or nothing
    in kernels that said so in a line before.
    """

    pid: int
    comm: str
    message: str = ""
    uid: int | None = None
    oom_score_adj: int | None = None
    total_vm_kib: int | None = None
    anon_rss_kib: int | None = None
    file_rss_kib: int | None = None
    shmem_rss_kib: int | None = None
    page_tables_kib: int | None = None

    @property
    def rss_kib(self) -> int | None:
        """What it had in RAM; None where the line does not say."""
        parts = (self.anon_rss_kib, self.file_rss_kib, self.shmem_rss_kib)
        known = [part for part in parts if part is not None]
        return sum(known) if known else None


Constraint = Literal["none", "cpuset", "memory-policy", "memcg"]
"""enum oom_constraint (include/linux/oom.h): what kept the allocation from all the memory there is."""

CONSTRAINTS: "dict[str, Constraint]" = {
    "CONSTRAINT_NONE": "none",
    "CONSTRAINT_CPUSET": "cpuset",
    "CONSTRAINT_MEMORY_POLICY": "memory-policy",
    "CONSTRAINT_MEMCG": "memcg",
}


class Context(NamedTuple):
    """Where memory had run out, and for whom, as an `oom-kill:` line has it (since Linux 5.0)."""

    constraint: Constraint
    pid: int
    comm: str
    uid: int
    oom_memcg: str = ""
    """The cgroup whose limit was hit, "" for another constraint."""
    task_memcg: str = ""
    """The cgroup that the victim lived in."""
    cpuset: str = ""
    mems_allowed: str = ""
    nodemask: str = ""


_KILLED = re.compile(
    r"(?:(?P<message>(?:Out of [mM]emory|Memory cgroup out of memory)(?: \(\w{1,40}\))?): )?"
    r"Killed process (?P<pid>\d{1,10})"
    r"(?:, UID (?P<early_uid>\d{1,10}),)? \((?P<comm>.*)\)"
    r"(?:, UID (?P<late_uid>\d{1,10}),)?(?P<figures>(?:[ ,]*(?:[a-zA-Z_-]{1,20}:-?\d{1,20}(?:kB)?))*)\.?\s*",
    re.DOTALL,
)
_FIGURE = re.compile(r"([a-zA-Z_-]+):(-?\d+)")
_FIGURES = {
    "total-vm": "total_vm_kib",
    "vsz": "total_vm_kib",  # 2.6.34 and 2.6.35
    "anon-rss": "anon_rss_kib",
    "file-rss": "file_rss_kib",
    "shmem-rss": "shmem_rss_kib",
    "UID": "uid",
    "pgtables": "page_tables_kib",
    "oom_score_adj": "oom_score_adj",
}

_CONTEXT = re.compile(
    r"oom-kill:constraint=(?P<constraint>\w+),nodemask=(?P<nodemask>\(null\)|[\d,-]*)"
    r"(?:,cpuset=(?P<cpuset>.*?),mems_allowed=(?P<mems_allowed>[\d,-]*))?"
    r"(?:,global_oom|,oom_memcg=(?P<oom_memcg>.*?))"
    r",task_memcg=(?P<rest>.*),pid=(?P<pid>\d{1,10}),uid=(?P<uid>\d{1,10})\s*",
    re.DOTALL,
)


_GROUP = re.compile(r"Tasks in (.*) are going to be killed due to memory\.oom\.group set\s*", re.DOTALL)


def parse_kill(line: str) -> Kill | None:
    """Parse a `Killed process` line of any kernel, without the log's prefix; None for any other line."""
    if "Killed process " not in line:
        return None
    found = _KILLED.fullmatch(line)
    if found is None:
        return None
    figures = {
        _FIGURES[name]: int(number) for name, number in _FIGURE.findall(found["figures"]) if name in _FIGURES
    }
    uid = found["early_uid"] or found["late_uid"]
    if uid is not None:
        figures["uid"] = int(uid)
    return Kill(int(found["pid"]), found["comm"], found["message"] or "", **figures)


def parse_context(line: str) -> Context | None:
    """Parse an `oom-kill:` line, without the log's prefix; None for any other line."""
    if not line.startswith("oom-kill:"):
        return None
    found = _CONTEXT.fullmatch(line)
    if found is None or found["constraint"] not in CONSTRAINTS:
        return None
    task_memcg, comm = _split_task(found["rest"])
    return Context(
        CONSTRAINTS[found["constraint"]],
        int(found["pid"]),
        comm,
        int(found["uid"]),
        oom_memcg=found["oom_memcg"] or "",
        task_memcg=task_memcg,
        cpuset=found["cpuset"] or "",
        mems_allowed=found["mems_allowed"] or "",
        nodemask="" if found["nodemask"] == "(null)" else found["nodemask"],
    )


def parse_group(line: str) -> str | None:
    """Return the cgroup that is killed as a whole, for its `memory.oom.group`; None for any other line."""
    found = _GROUP.fullmatch(line) if line.startswith("Tasks in ") else None
    return None if found is None else found[1]


def _split_task(rest: str) -> tuple[str, str]:
    """Split `/a/cgroup,task=name`; both may have `,task=` in them, but a name is short."""
    marker = ",task="
    at = rest.find(marker)
    while at >= 0:
        comm = rest[at + len(marker) :]
        if len(comm.encode("utf-8", "surrogateescape")) <= _COMM_BYTES:
            return rest[:at], comm
        at = rest.find(marker, at + 1)
    return rest, ""
