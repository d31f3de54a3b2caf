"""Kills that are not the kernel's: the words of programs that kill before memory runs out.

Their words count only next to their own name: the program in a prefix, or the unit in an entry of the
journal.
"""

import re
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from oomguard.oom.kill import COMM, Kill
from oomguard.oom.log_entry import split_any
from oomguard.oom.log_line import Line, is_others
from oomguard.oom.log_time import is_near

_T = TypeVar("_T")
_Split = tuple[str | None, Line | None]


class OtherKill(NamedTuple):
    """What a program says that it killed: a process with a pid, or a cgroup, pod or unit by its name.

    `is_evidence`: it only says that somebody else killed it.
    """

    by: str
    victim: str
    why: str
    said: str
    kill: Kill | None = None
    is_evidence: bool = False
    or_by: str = ""
    """Who else it may have been, "" if nobody."""

    def may_be_in(self, cgroup: str) -> bool:
        """Return whether the kill may be the kernel's of a process in that cgroup."""
        kind, _, name = self.victim.rpartition(" ")
        if kind == "container":
            return name in cgroup
        return self.by != "systemd" or name in cgroup.split("/")

    @property
    def is_kernels(self) -> bool:
        """Whether the kernel killed it."""
        return self.is_evidence and not self.why


class _Killer(NamedTuple):
    programs: tuple[str, ...]
    words: tuple[str, ...]
    """What a log is searched for: a line has one of them."""
    pattern: re.Pattern[str]
    read: Callable[[re.Match[str], str], OtherKill]
    event: str = ""
    """The reason of an event of Kubernetes that says the same behind other columns."""


def _oomd(found: re.Match[str], said: str) -> OtherKill:
    if found["what"] == "memory pressure":
        why = f"memory pressure{_percent(found['percent'])}"
    else:
        why = " and ".join(f"{what}{_percent(used, total)}" for what, used, total in _USED.findall(said))
    if found["cut"] is not None:
        why = "memory pressure or swap"
    limit = found["limit"] or found["over"]
    why = f"{why or found['what']}{f', more than{_percent(limit)}' if limit else ''}"
    return OtherKill("systemd-oomd", found["path"], why, said)


def _percent(number: str | None, total: str = "") -> str:
    """Return ` N %`; `number` is one, or a part of `total`. "" without a number."""
    if not number or total.strip("0") == "" != total:
        return ""
    return f" {round(float(number) / float(total) * 100 if total else float(number), 2):g} %"


def _oomd_unit(found: re.Match[str], said: str) -> OtherKill:
    return OtherKill("systemd-oomd", found["unit"], "memory pressure or swap", said, is_evidence=True)


def _unit(found: re.Match[str], said: str) -> OtherKill:
    or_by = "systemd-oomd" if found["result"] else ""
    return OtherKill("systemd", found["unit"], "", said, is_evidence=True, or_by=or_by)


def _named(by: str, kind: str, why: str = "") -> Callable[[re.Match[str], str], OtherKill]:
    """Return what reads that program's kill of what is in a group; without a reason, its evidence of one."""

    def read(found: re.Match[str], said: str) -> OtherKill:
        name = found[found.lastgroup] if found.lastgroup else ""
        victim = f"{kind} {name if why else name[:_ID_LENGTH]}" if name else f"a {kind}"
        return OtherKill(by, victim, why, said, is_evidence=not why)

    return read


def _process(by: str, why: str = "low memory") -> Callable[[re.Match[str], str], OtherKill]:
    """Return what reads that program's kill of a process; without a reason, its evidence of one."""

    def read(found: re.Match[str], said: str) -> OtherKill:
        kill = _killed(found)
        victim = NAMELESS if kill is None else f"{kill.comm}[{kill.pid}]"
        return OtherKill(by, victim, why, said, kill, is_evidence=not why)

    return read


def _killed(found: re.Match[str]) -> Kill | None:
    """Return the process that a line names, None if it names none; `old_pid` is that of an earlier form."""
    known = found.groupdict()
    pid, comm = known.get("pid") or known.get("old_pid"), known.get("comm") or known.get("old_comm") or ""
    uid = known.get("uid")
    return None if pid is None else Kill(int(pid), comm, uid=None if uid is None else int(uid))


def _talos(found: re.Match[str], said: str) -> OtherKill:
    return OtherKill("Talos", found["path"].removeprefix("/sys/fs/cgroup"), "memory pressure", said)


NAMELESS = "a process"
_NOHANG = "nohang"
_NUMBER = r"\d{1,3}(?:\.\d{1,2})?"
_USED = re.compile(r"\b(memory used|swap used) \((\d{1,20})(?:%|\) / total \((\d{1,20}))\)")
"""Bytes of a total, or percent, in what systemd-oomd says."""
_KUBELETS = ("kubelet", "k3s", "k0s", "rke2", "microk8s.daemon-kubelite", "microshift", "hyperkube")
_KILLERS = (
    _Killer(
        ("systemd-oomd",),
        ("Killed /", "Marked /"),
        re.compile(
            r"(?:Killed|Marked) (?P<path>/[^ >…]{1,4096})(?: (?:for killing )?due to "
            r"(?P<what>memory pressure|swap used|memory used)"
            rf"(?:.{{0,4500}}? being (?:more than (?P<limit>{_NUMBER})"
            rf"|(?P<percent>{_NUMBER})(?:% > (?P<over>{_NUMBER}))?)%)?|(?P<cut>.{{0,40}})[>…]\Z)"
        ),
        _oomd,
    ),
    _Killer(
        ("systemd",),
        ("-oomd killed ",),
        re.compile(r"(?P<unit>[^ ]{1,255}): systemd-oomd killed (?:some|\d{1,9}) process"),
        _oomd_unit,
    ),
    _Killer(
        ("systemd",),
        ("OOM killer",),
        re.compile(
            r"(?P<unit>[^ ]{1,255}): (?:A process of this unit has been killed by the OOM killer"
            r"|The kernel OOM killer killed some processes in this unit)(?P<result>)"
        ),
        _unit,
    ),
    _Killer(
        ("systemd",),
        ("result 'oom-kill'",),
        re.compile(r"(?P<unit>[^ ]{1,255}): Failed with (?P<result>result 'oom-kill')"),
        _unit,
    ),
    _Killer(
        ("containerd", "dockerd", "k3s", "rke2", "microk8s.daemon-containerd", "docker.dockerd"),
        ("TaskOOM event ", "/tasks/oom"),
        re.compile(
            r".{0,200}?TaskOOM event (?:container_id:\\?\"|&TaskOOM\{ContainerID:)(?P<id>[\w.-]{1,128})"
            r"|.{0,300}?[ =]/tasks/oom(?: \{\"container_id\":\"(?P<task>[\w.-]{1,128}))?"
        ),
        _named("containerd", "container"),
    ),
    _Killer(
        (),
        ("container oom ",),
        re.compile(r"(?:[A-Z]{3,4} )?container oom (?P<id>[0-9a-f]{12,64})\b"),
        _named("Docker", "container"),
    ),
    _Killer(
        ("Reason", "reason"),
        ("OOMKilled",),
        re.compile(
            r"\"reason\": ?\"OOMKilled\"|\"OOMKilled\": ?true\b|OOMKilled\Z"
            r"|(?:[\w-]{1,63} +)?[\w.-]{1,253} +\d{1,3}/\d{1,3} +OOMKilled "
        ),
        _named("Kubernetes", "container"),
    ),
    _Killer(
        ("slurmstepd",),
        ("oom-kill event", "oom_kill event"),
        re.compile(
            r"(?:error: )?Detected \d{1,9} oom[-_]kill event(?:\(s\))? in"
            r" (?:StepId=|step )(?P<id>[\w.]{1,64}\b)"
        ),
        _named("slurmstepd", "step"),
    ),
    _Killer(
        ("earlyoom",),
        ("ending SIG", "illing process "),
        re.compile(
            r"(?:sending SIG(?:TERM|KILL) to|[Kk]illing) process (?P<pid>\d{1,10}) "
            rf'(?:uid (?P<uid>\d{{1,10}}) )?"(?P<comm>{COMM})"(?:: (?:badness|oom_score) | with signal \d)'
            rf"|[Kk]illing process '(?P<old_comm>{COMM})' with signal \d{{1,2}}, pid: (?P<old_pid>\d{{1,10}})"
        ),
        _process("earlyoom"),
    ),
    _Killer(
        ("nohang", "nohang-desktop"),
        ("ending SIG", "Send SIG"),
        re.compile(r"Send(?:ing)? SIG(?:TERM|KILL) to the victim"),
        _process(_NOHANG),
    ),
    _Killer(
        ("lowmemorykiller", "lmkd"),
        ("Kill '", "Killing '", "Reclaim '", "send sigkill to "),
        re.compile(
            r"(?:Kill(?:ing)?|Reclaim) '(?P<comm>.{0,60})' \((?P<pid>\d{1,10})\)(?:, uid (?P<uid>\d{1,10}))?"
            r"|send sigkill to (?P<old_pid>\d{1,10}) \((?P<old_comm>.{0,60})\), (?:oom_)?(?:score_)?adj -?\d"
        ),
        _process("Android's low memory killer"),
    ),
    _Killer(
        (*_KUBELETS, "Message"),
        ("The node was low on resource: memory",),
        re.compile(r"(?:pod/(?P<pod>[\w.-]{1,253}) +)?The node was low on resource: memory"),
        _named("kubelet", "pod", "low memory"),
        "Evicted",
    ),
    _Killer(
        _KUBELETS,
        ("System OOM encountered",),
        re.compile(
            r".{0,300}?System OOM encountered"
            rf"(?:, victim process: (?P<comm>{COMM}), pid: (?P<pid>\d{{1,10}}))?"
        ),
        _process("the kubelet", why=""),
        "SystemOOM",
    ),
    _Killer(
        _KUBELETS,
        ("viction manager: pod ",),
        re.compile(
            r"(?:[IWE]\d{4} .{0,200}?\] )?\"?[Ee]viction manager: pod (?:is evicted successfully\" "
            r'pod="(?P<pod>[^"]{1,512})"|(?P<old>[^ ]{1,512}) is evicted successfully)'
        ),
        _named("kubelet", "pod", "low resources"),
    ),
    _Killer(
        ("talos",),
        ("ending SIG",),
        re.compile(r'Sending SIGKILL to cgroup \{.{0,500}?"cgroup": ?"(?P<path>/[^"]{1,4096})"'),
        _talos,
    ),
)

_CANDIDATE = re.compile(
    rf"(?:PID: {{1,9}}(?P<pid>\d{{1,10}}), [Nn]ame: (?P<comm>{COMM})"
    rf"|Victim is (?P<old_comm>{COMM}), pid: (?P<old_pid>\d{{1,10}})), badness: \d"
)
"""The process that nohang names in a line before that of the signal."""
TRIGGERS = (", badness: ", *dict.fromkeys(word for killer in _KILLERS for word in killer.words))
_SAID_LIMIT = 4096
_ID_LENGTH = 12
"""Of the ids of containers, as their tools show them."""
_HOSTS_LIMIT = 256


class OtherKillers:
    """Reads what other programs say in the lines of a log, in order: nohang needs two for one kill."""

    def __init__(self) -> None:
        self._candidates: dict[str, Kill] = {}
        self._told: dict[str, tuple[Line, OtherKill]] = {}

    def parse(self, line: str) -> tuple[Line, OtherKill] | None:
        """Return the kill that a line reports, and the line's time and host.

        None for any other line, and if the previous line was about the same kill: programs send two signals.
        """
        if (told := _told(line)) is not None:
            killer, message, match, said = told
            other = killer.read(match, said)
            candidate = self._candidates.pop(message.host, None) if other.by == _NOHANG else None
            if candidate is not None:
                victim = f"{candidate.comm}[{candidate.pid}]"
                other = other._replace(victim=victim, kill=candidate)
            before = self._told.get(message.host)
            if before is not None and _is_same(before, message, other):
                return None
            _keep(self._told, message.host, (message, other))
            return message, other
        if ", badness: " in line:
            self._remember(line)
        return None

    def _remember(self, line: str) -> None:
        program, message = split_any(line) or ("", None)
        if message is None or program not in (None, "nohang", "nohang-desktop"):
            message = Line(line)  # nohang's own log has neither a time nor a name in this line
        found = _CANDIDATE.match(message.text.strip())
        if found is not None and (kill := _killed(found)) is not None:
            _keep(self._candidates, message.host, kill)


def _keep(by_host: dict[str, _T], host: str, value: _T) -> None:
    if len(by_host) >= _HOSTS_LIMIT:
        by_host.clear()
    by_host[host] = value


def _is_same(before: tuple[Line, OtherKill], line: Line, other: OtherKill) -> bool:
    """Return whether a program's line is about the kill that another line before was about."""
    if not is_near(before[0], line):
        return False
    known, victim = before[1], other.victim
    if victim.startswith("a "):  # each line may be about another one
        return False
    path = known.victim.split("/")
    is_same = victim in path or (len(path) == 1 and victim.endswith(".slice"))
    return known.by.startswith(other.by) and is_same  # systemd's words may be about systemd-oomd's kill


def is_known(line: str) -> bool:
    """Return whether a line reports a kill, whatever is known of it."""
    return _told(line) is not None


def _told(line: str) -> tuple[_Killer, Line, re.Match[str], str] | None:
    split = None
    for killer in _KILLERS:
        if any(word in line for word in killer.words):
            split = split or split_any(line) or ("", None)
            if (found := _message(killer, line, split)) is not None:
                return killer, *found
    return None


def _message(killer: _Killer, line: str, split: _Split) -> tuple[Line, re.Match[str], str] | None:
    """Return the killer's message in a line, None if it is not the killer's."""
    program, message = split
    if message is not None and (program is None or program in killer.programs):
        said = message.text[:_SAID_LIMIT].strip()
    elif killer.event and (at := line.find(killer.words[0])) >= 0 and _is_event(line[:at], killer.event):
        message = Line(line) if message is None else message
        at = line.rfind(" pod/", 0, at) + 1 or at
        said = line[at : at + _SAID_LIMIT].strip().strip(_QUOTES)
    else:
        return None
    match = killer.pattern.match(said)
    return None if match is None else (message._replace(text=said), match, said)


def _is_event(prefix: str, reason: str) -> bool:
    """Return whether a message of that reason follows: as a column, or a field of YAML or JSON."""
    is_field = prefix.strip(_QUOTES) in ("message:", 'message":', 'message" :')
    return is_field or (f" {reason} " in prefix and not is_others(prefix))


_QUOTES = "\"', -"


UNITS = ("systemd-oomd.service", "earlyoom.service", "nohang.service", "nohang-desktop.service")
KUBELET_UNITS = (
    "kubelet.service",
    "k3s.service",
    "k3s-agent.service",
    "rke2-server.service",
    "rke2-agent.service",
    "k0scontroller.service",
    "k0sworker.service",
    "microshift.service",
    "snap.microk8s.daemon-kubelite.service",
)
"""The programs whose entries are read from the journal."""
