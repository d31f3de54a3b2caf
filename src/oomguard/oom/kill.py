"""The kernel's lines about a kill: which process, and which memory ran out (mm/oom_kill.c).

Names and paths are raw, and users choose both. So each line is parsed by fixed words that no name is long
enough to contain, or that follow the last name, in time linear in its length.
"""

import re

from oomguard.core.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from oomguard.core.choices import Constraint

_COMM_BYTES = 15
COMM_CHARACTERS = 60
"""Fifteen bytes, of which a log may write each as four characters, such as `#033` or `\\x1b`."""
COMM = r"(?:.{0,15}|(?=.{0,60}(?:[#^\\]|M-)).{0,60})"
"""A pattern of names, which have more than 15 characters only if some are escaped."""
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
    nodes: str = ""
    """The memory nodes that it was limited to, `0-1,3`; "" if unknown."""


KILLED = "Killed process "
_KILLED_IN_CONTAINER = "OOM killed process "
"""As OpenVZ prints it."""
MARKS = (KILLED, _KILLED_IN_CONTAINER, "ill process ")
"""What each line about a kill or a choice has in it."""
CONTEXT = "oom-kill:constraint="

# Every quantifier is bounded by what the kernel prints.
_KILLED = re.compile(
    r"(?:(?P<message>(?:Out of [mM]emory(?: in UB(?: \d{1,10})?)?|Memory cgroup out of memory"
    r"|No available memory(?: in cpuset)?)(?: \(\w{1,40}\))?): )?"
    rf"(?:{KILLED}|{_KILLED_IN_CONTAINER})(?P<pid>\d{{1,10}})(?:, UID (?P<uid>\d{{1,10}}),)? \("
)
_USUAL = re.compile(
    r" total-vm:(\d{1,20})kB, anon-rss:(\d{1,20})kB, file-rss:(\d{1,20})kB(?:, shmem-rss:(\d{1,20})kB)?"
    r"(?:, UID:(\d{1,10}) pgtables:(\d{1,20})kB oom_score_adj:(-?\d{1,5}))?"
)
"""What most kernels print behind the name. A storm of kills has hundred thousands of it."""
_BETWEEN = re.compile(r', UID (?P<uid>\d{1,10}),| in VE "[^"]{0,64}"| score \d{1,10}')
"""What RHEL and OpenVZ print between the name and the figures."""
_FIGURE = re.compile(r"[,\s]{1,40}+([a-zA-Z_-]{1,20}):(-?\d{1,20})(kB)?(?!\w)")
_CUT = re.compile(r"[a-zA-Z_-]{1,20}:-?\d{0,20}(?:k?|kB[>…│|])[>…│|]?")
_SHORT = 4
"""A word of so many characters may be anything without its last."""
_CLOSING = re.compile(r"\s{0,99}[]\"'`})*|,;.\\$]{0,6}\s{0,999}")
_NOTE = re.compile(r"[,\s]{0,99}[^\w\s,]|\s{2,99}\S")
_FIGURES = {
    "total-vm": "total_vm_kib",
    "vsz": "total_vm_kib",  # 2.6.34 and 2.6.35
    "vm": "total_vm_kib",  # OpenVZ
    "rss": "anon_rss_kib",
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
_CONSTRAINT = re.compile(r"CONSTRAINT_[A-Z_]{1,20}")
_FIELD = re.compile(r",\n\s{0,40}(?=(?:cpuset|mems_allowed|global_oom|oom_memcg|task_memcg|task|pid|uid)\b)")
_VICTIM = re.compile(r"(\d{1,10}),uid=(\d{1,10})\W{0,8}")
_LIMITED = re.compile(r",(?:nodemask|mems_allowed)=([\d,-]{1,200})(?=,[a-z])")
_SHORTENED = re.compile(r".{0,4000}[\s.…]task=([^,]{0,60})", re.DOTALL)
_GROUP_BEFORE, _GROUP_BEHIND = "Tasks in ", " are going to be killed due to memory.oom.group set"
_LIMIT_BEFORE, _LIMIT_BETWEEN = "Task in ", " killed as a result of limit of "


def names_process(text: str) -> bool:
    """Return whether a line may name a process that was killed or chosen."""
    return "process " in text and (KILLED in text or "ill process " in text or _KILLED_IN_CONTAINER in text)


def parse_kill(line: str, *, has_note: bool = True) -> Kill | None:
    """Parse a `Killed process` line of any kernel, without the log's prefix; None for any other line.

    Behind the figures may be what somebody added, if `has_note`.
    """
    head = _KILLED.match(line)
    if head is None:
        return None
    pid, message, start = int(head["pid"]), head["message"] or "", head.end()
    early_uid = None if head["uid"] is None else int(head["uid"])
    # No figure has a parenthesis, so the last one ends the name; somebody may have added a note.
    end = line.rfind(")", start, start + COMM_CHARACTERS + 1)
    while end >= 0:
        comm = line[start:end]
        if (usual := _USUAL.fullmatch(line, end + 1)) is not None and fits_comm(comm):
            known = [None if one is None else int(one) for one in usual.groups()]
            total, anon, file, shmem, uid, tables, value = known
            uid = early_uid if uid is None else uid
            return Kill(pid, comm, message, uid, value, total, anon, file, shmem, tables)
        if fits_comm(comm) and (figures := _parse_figures(line, end + 1, has_note=has_note)) is not None:
            if early_uid is not None:
                figures["uid"] = early_uid
            return Kill(pid, comm, message, **figures)
        end = line.rfind(")", start, end)
    return None


def _parse_figures(line: str, at: int, *, has_note: bool) -> dict[str, int] | None:
    """Parse what follows the name; None if the kernel does not print that.

    The end is often cut off. Whatever a person added behind two figures is no part of it.
    """
    figures = {}
    if (between := _BETWEEN.match(line, at)) is not None:
        at = between.end()
        if between["uid"] is not None:
            figures["uid"] = int(between["uid"])
    most = at + _FIGURES_LENGTH
    while (figure := _FIGURE.match(line, at, most)) is not None:
        name = _FIGURES.get(figure[1], "")
        if name.endswith("_kib") and figure[3] is None:
            break  # its number may be cut off
        if name:
            figures[name] = int(figure[2])
        at = figure.end()
    if _CLOSING.fullmatch(line, at) or _is_cut(line[at:most].strip(", \n").removesuffix(".")):
        return figures
    if has_note and "anon_rss_kib" in figures and _NOTE.match(line, at) is not None:
        return figures
    return None


def _is_cut(word: str) -> bool:
    """Return whether a figure is cut; a terminal that does not wrap puts the line's last character behind."""
    return any(
        _CUT.fullmatch(one) is not None or any(name.startswith(one.rstrip(">…│|")) for name in _FIGURES)
        for one in (word, word[:-1] if len(word) > _SHORT else word)
    )


def parse_context(line: str) -> Context | None:
    """Parse an `oom-kill:` line, without the log's prefix; None for any other line.

    `oom-kill:constraint=…,nodemask=…[,cpuset=…,mems_allowed=…](,global_oom|,oom_memcg=…),task_memcg=…,task=…,
    pid=…,uid=…`. A cpuset's name, both paths and the task's name may contain any of these words. But a
    cpuset's name has no slash, and the victim's cgroup is the one that reached its limit, or below it.
    Kernels without memory cgroups print none; people leave out what is long.
    """
    if not line.startswith(CONTEXT) or len(line) > _RECORD_CHARACTERS:
        return None
    if "\n" in line:
        line = _FIELD.sub(",", line)
    word = _CONSTRAINT.match(line, len(CONTEXT))
    constraint = CONSTRAINTS.get(word[0]) if word is not None else None
    if word is None or constraint is None:
        return None
    rest, _, victim = line[word.end() :].rpartition(",pid=")
    numbers = _VICTIM.fullmatch(victim.rstrip())
    if numbers is None:
        return None
    pid, uid = int(numbers[1]), int(numbers[2])
    where, oom_memcg, task = _split_memcgs(rest, "oom_memcg" if constraint == "memcg" else "global_oom")
    if not task and constraint == "none":  # 5.0 prints CONSTRAINT_NONE for a cgroup
        where, oom_memcg, task = _split_memcgs(rest, "oom_memcg")
        constraint = "memcg" if task else constraint
    if task:
        task_memcg, comm = _split_task(task)
        nodes = _parse_nodes(where) if task_memcg else None
    else:
        before, comm = _split_task(rest)
        if not (before or comm) and (shortened := _SHORTENED.fullmatch(rest)) is not None:
            comm = shortened[1]
        where, _, oom_memcg = before.partition(",oom_memcg=")
        task_memcg, nodes = "", _parse_nodes(where) or ""
        if "task=" not in rest or not fits_comm(comm):
            return None
    if nodes is None:
        return None
    return Context(constraint, pid, comm, uid, oom_memcg, task_memcg, nodes)


def parse_constraint(line: str) -> "tuple[Constraint, str] | None":
    """Return what limited the allocation, and to which nodes, from an `oom-kill:` line whose end is missing.

    None if it does not say: Linux 5.0 prints CONSTRAINT_NONE for a cgroup, too.
    """
    word = _CONSTRAINT.match(line, len(CONTEXT)) if line.startswith(CONTEXT) else None
    constraint = CONSTRAINTS.get(word[0]) if word is not None else None
    if constraint is None or constraint == "none":
        return None
    found = _LIMITED.search(line, 0, _RECORD_CHARACTERS)
    return constraint, found[1] if found is not None else ""


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
        if is_within(below, above):
            return where, above, below
        at = paths.find(marker, at + 1)
    return (where, paths[:first], paths[first + len(marker) :]) if first >= 0 else ("", "", "")


def _parse_nodes(text: str) -> str | None:
    """Return the nodes in `nodemask[,cpuset=…,mems_allowed=…]`, "" if unknown; None for anything else."""
    nodemask, found, rest = text.removeprefix(",nodemask=").partition(",cpuset=")
    _, has_mems, mems_allowed = rest.rpartition(",mems_allowed=")
    if nodemask == "(null)":
        nodemask = ""
    if bool(found) != bool(has_mems) or not _NODES.fullmatch(nodemask) or not _NODES.fullmatch(mems_allowed):
        return None
    return nodemask or mems_allowed


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


def parse_limit(line: str) -> tuple[str, str] | None:
    """Return the victim's cgroup, and the one at its limit, as kernels before 5.0 print them; else None."""
    if not line.startswith(_LIMIT_BEFORE):
        return None
    task, found, oom = line.rstrip()[len(_LIMIT_BEFORE) :].rpartition(_LIMIT_BETWEEN)
    return (task, oom) if found else None


def is_within(path: str, above: str) -> bool:
    """Return whether a cgroup is that one, or below it; the victim's is, unless a line is cut."""
    return path == above or path.startswith(f"{above.rstrip('/')}/")
