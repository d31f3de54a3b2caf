"""A /proc that exists only in memory, for the processes and the host of a case.

It is read by the code that reads the real one, so the decisions are those of the daemon.
"""

import errno
import os
from operator import attrgetter

from oomguard.core.overcommit import KNOBS, commit_limit_kib
from oomguard.core.process import Facts, Identity, Process
from oomguard.core.sysctl import SYSCTLS
from oomguard.kernel.cgroup_folders import CgroupFolders
from oomguard.kernel.proc_files import Stat
from oomguard.kernel.procfs import ProcessHandle, Procfs
from oomguard.kernel.slow_reads import Spender
from oomguard.kernel.sysctl_files import parse_meminfo

_PATHS = {row.path: row.name for row in SYSCTLS.values()}


class ImaginedProc(Procfs):
    """Processes, sysctls and memory figures, the latter in KiB by their names in /proc/meminfo."""

    def __init__(self, sysctls: dict[str, int], meminfo: dict[str, int]) -> None:
        self.root = "/proc"
        self._sysctls = sysctls
        self._meminfo = meminfo
        self._processes: dict[int, Process] = {}
        self._ticks = 1
        self._cgroups = self.cgroups = _Cgroups()

    def add(self, process: Process, *, is_new: bool) -> Identity:
        """Add a process that starts now, or that ran before; return its identity."""
        self._ticks += is_new
        identity = Identity(process.identity.pid, self._ticks if is_new else 0)
        self._processes[identity.pid] = process._replace(identity=identity)
        self._cgroups.add(process)
        return identity

    def process(self, pid: int) -> Process:
        """Return a process as it is now."""
        return self._processes[pid]

    def set_oom_score_adj(self, pid: int, value: int) -> None:
        """Give a process a value."""
        self._processes[pid] = self._processes[pid]._replace(oom_score_adj=value)

    def pids(self) -> list[int]:
        """Return the pids."""
        return list(self._processes)

    def open(self, pid: int) -> ProcessHandle | None:
        """Open a process; return None if it does not exist."""
        return _Handle(pid, self) if pid in self._processes else None

    def comm(self, pid: int) -> bytes | None:
        """Return the name of a process, None if it does not exist."""
        return self._processes[pid].comm if pid in self._processes else None

    def now_ticks(self) -> int:
        """Return the time, which goes on with each process that starts."""
        return self._ticks

    def read(self, path: str, _limit: int = 65536) -> bytes:
        """Read a sysctl, or meminfo with the CommitLimit that the sysctls give. FileNotFoundError: others."""
        if path == "meminfo":
            return self._rendered()
        name = _PATHS.get(path)
        if name is None or name not in self._sysctls:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return b"%d\n" % self._sysctls[name]

    def _rendered(self) -> bytes:
        raw = _lines(self._meminfo)
        knobs = {name: value for name, value in self._sysctls.items() if name in KNOBS}
        return raw + _lines({"CommitLimit": commit_limit_kib(parse_meminfo(raw), knobs)})


def _lines(fields: dict[str, int]) -> bytes:
    return "".join(f"{key}: {value} kB\n" for key, value in fields.items()).encode()


class _Cgroups(CgroupFolders):
    """Cgroups of which a process tells whether root made those beside its own."""

    def __init__(self) -> None:
        super().__init__(None)
        self._users: set[str] = set()
        """Folders in which users make cgroups."""

    def add(self, process: Process) -> None:
        if process.cgroup_is_roots is False:
            self._users.add(process.cgroup.rpartition("/")[0])

    def are_roots(self, path: str) -> bool | None:
        return path.rpartition("/")[0] not in self._users


class _Handle(ProcessHandle):
    """A process that needs no descriptor. Its `Facts` are set below."""

    def __init__(self, pid: int, proc: ImaginedProc) -> None:
        super().__init__(pid, -1, proc)
        self._proc = proc

    def __exit__(self, *_: object) -> None:
        pass

    @property
    def facts(self) -> Process:
        return self._proc.process(self.pid)

    @property
    def stat(self) -> Stat:
        facts = self.facts
        return Stat(facts.comm, "S", facts.parent_pid, 0, 1, facts.identity.start_time_ticks)

    @property
    def inode(self) -> int:
        return self.pid

    @property
    def effective_uid(self) -> int:
        return self.uid

    def spender(self) -> Spender:
        return Spender(self.budget_key, is_root=self.uid == 0)

    @property
    def may_lower_itself(self) -> bool:
        """Whether it is the host's root, with all rights."""
        return self.uid == 0 and not self.in_user_namespace

    def read_oom_score_adj(self) -> int:
        return self.facts.oom_score_adj

    def value_owner(self) -> int:
        return self.uid

    def write_oom_score_adj(self, value: int) -> None:
        self._proc.set_oom_score_adj(self.pid, value)


for _name, _fact in vars(Facts).items():
    if isinstance(_fact, property):
        setattr(_Handle, _name, property(attrgetter(f"facts.{_name}")))
