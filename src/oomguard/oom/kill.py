"""The kernel's lines about a kill: which process, and which memory ran out (mm/oom_kill.c).

Names and paths are raw, and users choose both. So each line is parsed by fixed words that no name is long
enough to contain, or that follow the last name, in time linear in its length.
"""

import re

from oomguard.core.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import Literal

    Constraint = Literal["none", "cpuset", "memory-policy", "memcg"]

_COMM_BYTES = 15
COMM_CHARACTERS = 60
"""Fifteen bytes, of which a log may write each as four characters, such as `#033` or `\\x1b`."""
_ESCAPE = re.compile(r"#\d{3}|\\x[0-9a-fA-F]{2}|\\\d{3}|\\[nrt\\]|\^[@-_]|M-.")


def fits_comm(text: str) -> bool:
    """Return whether a text can be the name of a process: 15 bytes, of which a log may have escaped some."""
    if len(text) <= _COMM_BYTES and text.isascii():
        return True
    text = _ESCAPE.sub("?", text[: COMM_CHARACTERS + 1]).replace("\ufffd", "?")
    return len(text.encode("utf-8", "surrogateescape")) <= _COMM_BYTES


class Kill(NamedTuple):
    """A process that the kernel killed, from its `Killed process` line; missing values are None.

    `message` is the beginning of the line: `Out of memory`, `Memory cgroup out of memory`, or nothing if the
    kernel printed it in a line before.
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
        """Its memory in RAM; None if the line does not have it."""
        if self.anon_rss_kib is None:
            return None
        return self.anon_rss_kib + (self.file_rss_kib or 0) + (self.shmem_rss_kib or 0)


CONSTRAINTS: "dict[str, Constraint]" = {
    "CONSTRAINT_NONE": "none",
    "CONSTRAINT_CPUSET": "cpuset",
    "CONSTRAINT_MEMORY_POLICY": "memory-policy",
    "CONSTRAINT_MEMCG": "memcg",
}
"""enum oom_constraint (include/linux/oom.h): what limited the allocation to a part of memory."""


class Context(NamedTuple):
    """Which memory ran out, and which process was chosen, from an `oom-kill:` line (since Linux 5.0)."""

    constraint: "Constraint"
    pid: int
    comm: str
    uid: int
    oom_memcg: str = ""
    """The cgroup that reached its limit, "" for another constraint."""
    task_memcg: str = ""
    """The victim's cgroup."""
    cpuset: str = ""
    mems_allowed: str = ""
    nodemask: str = ""

    @property
    def nodes(self) -> str:
        """The memory nodes that it was limited to, `0-1,3`; "" if unknown."""
        return self.nodemask or self.mems_allowed


KILLED = "Killed process "
CONTEXT = "oom-kill:constraint="

# Every quantifier is bounded by what the kernel prints.
_KILLED = re.compile(
    r"(?:(?P<message>(?:Out of [mM]emory|Memory cgroup out of memory|No available memory(?: in cpuset)?)"
    r"(?: \(\w{1,40}\))?): )?"
    rf"{KILLED}(?P<pid>\d{{1,10}})(?:, UID (?P<uid>\d{{1,10}}),)? \("
)
_USUAL = re.compile(
    r" total-vm:(\d{1,20})kB, anon-rss:(\d{1,20})kB, file-rss:(\d{1,20})kB(?:, shmem-rss:(\d{1,20})kB)?"
    r"(?:, UID:(\d{1,10}) pgtables:(\d{1,20})kB oom_score_adj:(-?\d{1,5}))?"
)
"""What most kernels print behind the name. A storm of kills has hundred thousands of it."""
_LATE_UID = re.compile(r", UID (\d{1,10}),")
_FIGURE = re.compile(r"([a-zA-Z_-]{1,20}):(-?\d{1,20})(?:kB)?")
_CUT = re.compile(r"[a-zA-Z_-]{1,20}:-?\d{0,20}(?:k?|kB[>…])[>…]?")
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
_FIGURES_LENGTH = 512
_RECORD_CHARACTERS = 4096
"""A record of the kernel's has 1 KiB (PRINTKRB_RECORD_MAX), of which a log may write each byte as four."""
_NODES = re.compile(r"[\d,-]*")
_VICTIM = re.compile(r"(\d{1,10}),uid=(\d{1,10})")
_GROUP_BEFORE, _GROUP_BEHIND = "Tasks in ", " are going to be killed due to memory.oom.group set"


def parse_kill(line: str) -> Kill | None:
    """Parse a `Killed process` line of any kernel, without the log's prefix; None for any other line."""
    head = _KILLED.match(line)
    if head is None:
        return None
    # No figure has a parenthesis, so the last one ends the name.
    end = line.rfind(")")
    if not head.end() <= end <= head.end() + COMM_CHARACTERS or not fits_comm(line[head.end() : end]):
        return None
    pid, comm, message = int(head["pid"]), line[head.end() : end], head["message"] or ""
    early_uid = None if head["uid"] is None else int(head["uid"])
    if (usual := _USUAL.fullmatch(line, end + 1)) is not None:
        known = [None if one is None else int(one) for one in usual.groups()]
        total, anon, file, shmem, uid, tables, value = known
        uid = early_uid if uid is None else uid
        return Kill(pid, comm, message, uid, value, total, anon, file, shmem, tables)
    figures = _parse_figures(line[end + 1 : end + 1 + _FIGURES_LENGTH])
    if figures is None or len(line) - end > _FIGURES_LENGTH:
        return None
    if early_uid is not None:
        figures["uid"] = early_uid
    return Kill(pid, comm, message, **figures)


def _parse_figures(text: str) -> dict[str, int] | None:
    """Parse what follows the name; None if the kernel does not print that."""
    figures = {}
    late_uid = _LATE_UID.match(text)
    if late_uid is not None:
        figures["uid"] = int(late_uid[1])
        text = text[late_uid.end() :]
    words = [word for word in text.rstrip().removesuffix(".").replace(",", " ").split(" ") if word]
    for word in words:
        figure = _FIGURE.fullmatch(word)
        if figure is None:
            # The end of a line is often cut off.
            return figures if word is words[-1] and _is_cut(word) else None
        if word is words[-1] and figure[1].endswith(("-vm", "-rss")) and word[-1] != "B":
            return figures
        if figure[1] in _FIGURES:
            figures[_FIGURES[figure[1]]] = int(figure[2])
    return figures


def _is_cut(word: str) -> bool:
    return _CUT.fullmatch(word) is not None or any(name.startswith(word.rstrip(">…")) for name in _FIGURES)


def parse_context(line: str) -> Context | None:
    """Parse an `oom-kill:` line, without the log's prefix; None for any other line.

    `oom-kill:constraint=…,nodemask=…[,cpuset=…,mems_allowed=…](,global_oom|,oom_memcg=…),task_memcg=…,task=…,
    pid=…,uid=…`. A cpuset's name, both paths and the task's name may contain any of these words. But a
    cpuset's name has no slash, and the victim's cgroup is the one that reached its limit, or below it.
    """
    if not line.startswith(CONTEXT) or len(line) > _RECORD_CHARACTERS:
        return None
    word, _, rest = line[len(CONTEXT) :].partition(",nodemask=")
    constraint = CONSTRAINTS.get(word)
    rest, _, victim = rest.rpartition(",pid=")
    numbers = _VICTIM.fullmatch(victim.rstrip())
    if constraint is None or numbers is None:
        return None
    where, oom_memcg, task = _split_memcgs(rest, "oom_memcg" if constraint == "memcg" else "global_oom")
    if not task and constraint == "none":  # 5.0 prints CONSTRAINT_NONE for a cgroup
        where, oom_memcg, task = _split_memcgs(rest, "oom_memcg")
        constraint = "memcg"
    nodes = _parse_nodes(where)
    if not task or nodes is None:
        return None
    nodemask, cpuset, mems_allowed = nodes
    task_memcg, comm = _split_task(task)
    if not task_memcg:
        return None
    pid, uid = int(numbers[1]), int(numbers[2])
    return Context(constraint, pid, comm, uid, oom_memcg, task_memcg, cpuset, mems_allowed, nodemask)


def _split_memcgs(text: str, kind: str) -> tuple[str, str, str]:
    """Split `…,oom_memcg=/a,task_memcg=/a/b,task=c` or `…,global_oom,task_memcg=/a/b,task=c`.

    Returns what stands before, the cgroup at its limit, and the rest; three times "" if it is neither.
    """
    marker = ",task_memcg="
    if kind == "global_oom":
        where, found, task = text.partition(f",global_oom{marker}/")
        return (where, "", f"/{task}") if found else ("", "", "")
    where, _, paths = text.partition(",oom_memcg=/")
    paths = f"/{paths}"
    first = at = paths.find(marker)
    while at >= 0:
        above, below = paths[:at], paths[at + len(marker) :]
        if below.startswith(above):
            return where, above, below
        at = paths.find(marker, at + 1)
    return (where, paths[:first], paths[first + len(marker) :]) if first >= 0 else ("", "", "")


def _parse_nodes(text: str) -> tuple[str, str, str] | None:
    """Parse `nodemask[,cpuset=…,mems_allowed=…]`; None for anything else."""
    nodemask, found, rest = text.partition(",cpuset=")
    cpuset, has_mems, mems_allowed = rest.rpartition(",mems_allowed=")
    if nodemask == "(null)":
        nodemask = ""
    if bool(found) != bool(has_mems) or not _NODES.fullmatch(nodemask) or not _NODES.fullmatch(mems_allowed):
        return None
    return nodemask, cpuset, mems_allowed


def _split_task(text: str) -> tuple[str, str]:
    """Split `/a/cgroup,task=name`; both may have `,task=` in them, but a name is short."""
    marker = ",task="
    at = text.find(marker, max(len(text) - len(marker) - _COMM_BYTES, 0))
    while at >= 0:
        comm = text[at + len(marker) :]
        if fits_comm(comm):
            return text[:at], comm
        at = text.find(marker, at + 1)
    path, _, comm = text.rpartition(marker)  # a log has escaped it
    return (path, comm) if path and fits_comm(comm) else ("", "")


def parse_group(line: str) -> str | None:
    """Return the cgroup that is killed as a whole, for its `memory.oom.group`; None for any other line."""
    if not line.startswith(_GROUP_BEFORE):
        return None
    text = line.rstrip()
    if not text.endswith(_GROUP_BEHIND) or len(text) < len(_GROUP_BEFORE) + len(_GROUP_BEHIND):
        return None
    return text[len(_GROUP_BEFORE) : -len(_GROUP_BEHIND)]
