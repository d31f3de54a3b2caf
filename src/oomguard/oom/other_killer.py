"""Kills that are not the kernel's: what the programs that kill before memory runs out say of it.

Their words count only behind their own name: the program in a prefix, or the unit in an entry of the journal.
"""

import re
from typing import TYPE_CHECKING, NamedTuple

from oomguard.oom.kill import Kill
from oomguard.oom.log_entry import split_any
from oomguard.oom.log_line import Line

if TYPE_CHECKING:
    from collections.abc import Callable


class OtherKill(NamedTuple):
    """What a program says that it killed: a process with a pid, or a cgroup, pod or unit by its name.

    With `is_evidence`, it only says that somebody else killed it: `by` is "systemd".
    """

    by: str
    victim: str
    why: str
    said: str
    kill: Kill | None = None
    is_evidence: bool = False


class _Killer(NamedTuple):
    programs: tuple[str, ...]
    words: str
    pattern: re.Pattern[str]
    read: "Callable[[re.Match[str], str], OtherKill]"


def _oomd(found: re.Match[str], said: str) -> OtherKill:
    percent = f" {found['percent']} %" if found["percent"] else ""
    return OtherKill("systemd-oomd", found["path"], f"{found['what']}{percent}", said)


def _oomd_unit(found: re.Match[str], said: str) -> OtherKill:
    return OtherKill("systemd-oomd", found["unit"], "memory pressure or swap", said, is_evidence=True)


def _unit(found: re.Match[str], said: str) -> OtherKill:
    return OtherKill("systemd", found["unit"], "", said, is_evidence=True)


def _earlyoom(found: re.Match[str], said: str) -> OtherKill:
    uid = None if found["uid"] is None else int(found["uid"])
    kill = Kill(int(found["pid"]), found["comm"], uid=uid)
    return OtherKill("earlyoom", f"{kill.comm}[{kill.pid}]", "low memory", said, kill)


def _nohang(_: re.Match[str], said: str) -> OtherKill:
    return OtherKill("nohang", "a process", "low memory", said)


def _kubelet(found: re.Match[str], said: str) -> OtherKill:
    return OtherKill("kubelet", f"pod {found['pod'] or found['old']}", "low resources", said)


def _talos(found: re.Match[str], said: str) -> OtherKill:
    return OtherKill("Talos", found["path"].removeprefix("/sys/fs/cgroup"), "memory pressure", said)


_KILLERS = (
    _Killer(
        ("systemd-oomd",),
        "Killed /",
        re.compile(
            r"Killed (?P<path>/[^ ]{1,4096}) due to (?P<what>memory pressure|swap used|memory used)"
            r"(?:.{0,4500}? being (?:more than )?(?P<percent>\d{1,3}(?:\.\d{1,2})?)%)?"
        ),
        _oomd,
    ),
    _Killer(
        ("systemd",),
        ": systemd-oomd killed ",
        re.compile(r"(?P<unit>[^ ]{1,255}): systemd-oomd killed (?:some|\d{1,9}) process"),
        _oomd_unit,
    ),
    _Killer(
        ("systemd",),
        ": A process of this unit has been killed by the OOM killer",
        re.compile(r"(?P<unit>[^ ]{1,255}): A process of this unit has been killed by the OOM killer"),
        _unit,
    ),
    _Killer(
        ("earlyoom",),
        "sending SIG",
        re.compile(
            r"sending SIG(?:TERM|KILL) to process (?P<pid>\d{1,10}) (?:uid (?P<uid>\d{1,10}) )?"
            r'"(?P<comm>.{0,60}?)": (?:badness|oom_score) '
        ),
        _earlyoom,
    ),
    _Killer(
        ("nohang", "nohang-desktop"),
        "Sending SIG",
        re.compile(r"Sending SIG(?:TERM|KILL) to the victim"),
        _nohang,
    ),
    _Killer(
        ("kubelet", "k3s", "k0s", "rke2", "hyperkube"),
        "viction manager: pod ",
        re.compile(
            r"(?:[IWE]\d{4} .{0,200}?\] )?\"?[Ee]viction manager: pod (?:is evicted successfully\" "
            r'pod="(?P<pod>[^"]{1,512})"|(?P<old>[^ ]{1,512}) is evicted successfully)'
        ),
        _kubelet,
    ),
    _Killer(
        ("talos",),
        "Sending SIGKILL to cgroup",
        re.compile(r'Sending SIGKILL to cgroup \{.{0,500}?"cgroup": ?"(?P<path>/[^"]{1,4096})"'),
        _talos,
    ),
)

TRIGGERS = ("Killed /", "-oomd killed ", "OOM killer", "ending SIG", "viction manager: pod ")
"""What a log is searched for: each of the words above has one of these."""
_SAID_LIMIT = 4096


def parse_other(line: str) -> tuple[Line, OtherKill] | None:
    """Return the kill of another program that a line tells of, and the line's time and host; else None."""
    for killer in _KILLERS:
        if killer.words not in line:
            continue
        entry = split_any(line)
        if entry is None:
            return None
        program, message = entry
        if program is None or program in killer.programs:
            said = message.text[:_SAID_LIMIT].strip()
            found = killer.pattern.match(said)
            if found is not None:
                return message, killer.read(found, said)
    return None


UNITS = (
    "systemd-oomd.service",
    "earlyoom.service",
    "nohang.service",
    "nohang-desktop.service",
    "kubelet.service",
    "k3s.service",
)
"""Whose entries the journal is asked for."""
