"""A tree of real files that looks like /proc. It neither refuses nor forgets, as the kernel would."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from oomguard.core.change import SetOomScoreAdj
from oomguard.core.process import COMM_LENGTH, Process
from oomguard.core.sysctl import SYSCTLS, Sysctl
from oomguard.kernel.cgroup_folders import CgroupFolders
from oomguard.kernel.container import Containers
from oomguard.kernel.proc_files import PF_FORKNOEXEC, PF_KTHREAD
from oomguard.kernel.procfs import ProcessHandle, Procfs
from oomguard.kernel.slow_reads import SlowReads, patient_reads
from oomguard.kernel.sysctl_files import meminfo_fields
from oomguard.reconcile.reconciler import Reconciler

if TYPE_CHECKING:
    from collections.abc import Callable

MEMINFO = {
    "MemTotal": 16 * 1024 * 1024,
    "SwapTotal": 0,
    "Committed_AS": 2 * 1024 * 1024,
    "HugePages_Total": 0,
    "Hugepagesize": 2048,
    "Hugetlb": 0,
}

CONTAINED, USERS_CGROUPS, DYNAMIC_UIDS = "contained", "users-cgroups", "dynamic-uids"
"""Files of the tree that no /proc has: what is elsewhere on a real host."""

GRANTED = "granted"
"""Beside a sysctl's file: the most that this kernel makes of it."""

HOSTILE_NAMES = [
    b"foo) Z 1 (",
    b") S 1 1 1 1 -1",
    b"two words",
    b"line\nfeed",
    b"\x1b[2Jclear",
    b"",
    b"\xff\xfe",
    b"\xc3(",
    b"(((",
    b")))",
    b"\t\n \r",
    b"exactly15bytes!",
]
"""Names that a process may choose, to mislead who parses or prints them."""

_BY_PATH = {row.path: row for row in SYSCTLS.values()}


def stat_line(
    comm: bytes, *, state: str = "S", parent: int = 1, flags: int = 0, threads: int = 1, start: int = 77
) -> bytes:
    """Return /proc/PID/stat as the kernel writes it, all 52 fields."""
    fields = [state, parent, 5, 5, 0, -1, flags, *[0] * 10, threads, 0, start, *[0] * 30]
    return b"5 (%b) " % comm + " ".join(map(str, fields)).encode() + b"\n"


class FakeKernel(Procfs):
    """What the tree cannot do by itself: list pids in order, compute CommitLimit, zero a partner.

    Cgroups and containers it has as the test says of each process.
    """

    def __init__(self, root: str, slow_reads: SlowReads | None = None) -> None:
        super().__init__(root, slow_reads or patient_reads())
        self.cgroups = FakeCgroups(root)
        self.containers = FakeContainers(root)
        self.dynamic_uids = f"{root}/{DYNAMIC_UIDS}"

    def pids(self) -> list[int]:
        """Return the pids in the kernel's order."""
        return sorted(super().pids())

    def now_ticks(self) -> int:
        """Return a time after the start of every process there is."""
        return 1 + max(
            (found.start_time_ticks for pid in self.pids() if (found := self.identity(pid))), default=0
        )

    def read(self, path: str, limit: int = 65536) -> bytes:
        """Read a file; meminfo has the huge pages and, unless stated, the CommitLimit of the sysctls."""
        raw = super().read(path, limit)
        if path != "meminfo":
            return raw
        memory = meminfo_fields(raw)
        pages = self._number("vm.nr_hugepages", memory[b"HugePages_Total"])
        memory[b"Hugetlb"] += (pages - memory[b"HugePages_Total"]) * memory[b"Hugepagesize"]
        memory[b"HugePages_Total"] = pages
        if b"CommitLimit" not in memory:
            kbytes, ratio = self._number("vm.overcommit_kbytes", 0), self._number("vm.overcommit_ratio", 50)
            of_ram = kbytes or (memory[b"MemTotal"] - memory[b"Hugetlb"]) * ratio // 100
            memory[b"CommitLimit"] = of_ram + memory[b"SwapTotal"]
        return b"".join(b"%b: %d kB\n" % field for field in memory.items())

    def _number(self, name: str, otherwise: int) -> int:
        try:
            return int(super().read(SYSCTLS[name].path))
        except FileNotFoundError:
            return otherwise

    def write(self, path: str, text: bytes) -> None:
        """Write a file, and what the kernel writes beside it; no more than the test says is granted."""
        row = _BY_PATH.get(path)
        if row is not None and row.partner and self._zeroes_partner(row, int(text)):
            partner = SYSCTLS[row.partner].path
            # Ahead of the write: a kill between the two leaves none in force, as no kernel leaves both.
            if os.path.exists(os.path.join(self.root, partner)):
                super().write(partner, b"0\n")
        granted = Path(self.root, GRANTED, row.name) if row is not None else None
        if granted is not None and granted.exists():
            text = b"%d\n" % min(int(text), int(granted.read_text()))
        super().write(path, text)

    def _zeroes_partner(self, row: Sysctl, value: int) -> bool:
        # Most zero at every write, these two (mm/page-writeback.c) only at one that changes the value.
        return row.name not in {"vm.dirty_ratio", "vm.dirty_bytes"} or value != int(self.read(row.path))


def due(reconciler: Reconciler) -> list[SetOomScoreAdj]:
    """Return the change that each process needs."""
    changes = [reconciler.next_change(handle, "policy") for handle in reconciler.processes()]
    return [change for change in changes if change is not None]


class FakeCgroups(CgroupFolders):
    """Cgroups that root made, but for those that a test says a user made."""

    def __init__(self, root: str) -> None:
        super().__init__(None)
        self._users = Path(root, USERS_CGROUPS)

    def are_roots(self, path: str) -> bool | None:
        """Tell what the test said."""
        return path.removesuffix("/") not in self._users.read_text().split("\n")


class FakeContainers(Containers):
    """Containers, and what a test says is in one."""

    def __init__(self, root: str) -> None:
        super().__init__()
        self._root = root

    def hold(
        self, handle: ProcessHandle, open_process: "Callable[[int], ProcessHandle | None]"
    ) -> bool | None:
        """Tell what the test said, or else what the tree says."""
        return os.path.exists(f"{self._root}/{handle.pid}/{CONTAINED}") or super().hold(handle, open_process)


class FakeProc:
    """Builds the tree below `root`; `procfs` reads it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / DYNAMIC_UIDS).mkdir(parents=True)
        (root / "self").mkdir()
        (root / USERS_CGROUPS).touch()
        (root / "sys" / "vm").mkdir(parents=True)
        (root / "sys" / "kernel" / "random").mkdir(parents=True)
        (root / "sys" / "kernel" / "random" / "boot_id").write_text("fake-boot\n")
        (root / "sys" / "kernel" / "osrelease").write_text("6.12.0\n")
        self.meminfo()

    def procfs(self) -> Procfs:
        """Open the tree; the caller closes it."""
        return FakeKernel(str(self.root))

    def meminfo(self, **fields: int) -> None:
        """Write meminfo, with `fields` over the defaults."""
        lines = [f"{key}: {value} kB\n" for key, value in (MEMINFO | fields).items()]
        (self.root / "meminfo").write_text("".join(lines))

    def boot(self, boot_id: str) -> None:
        """Make it another boot."""
        (self.root / "sys" / "kernel" / "random" / "boot_id").write_text(f"{boot_id}\n")

    def sysctl(self, name: str, value: int) -> None:
        """Give this kernel a sysctl."""
        path = self.root / SYSCTLS[name].path
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"{value}\n")

    def grant(self, name: str, most: int) -> None:
        """Have this kernel make no more than `most` of what is written to a sysctl."""
        (self.root / GRANTED).mkdir(exist_ok=True)
        (self.root / GRANTED / name).write_text(f"{most}\n")

    def sysctls(self) -> dict[str, int]:
        """Return every sysctl there is."""
        found = {}
        for name, row in SYSCTLS.items():
            path = self.root / row.path
            if path.exists():
                found[name] = int(path.read_text())
        return found

    def process(
        self,
        process: Process,
        *,
        kernel_thread: bool = False,
        forked: bool = False,
        state: str = "S",
        threads: int = 1,
        namespaces: int = 1,
    ) -> None:
        """Start a process.

        `forked`: it has run no program yet; `namespaces` is how deep it is in PID namespaces, unless it is in
        a container.
        """
        folder = self.root / str(process.identity.pid)
        folder.mkdir(exist_ok=True)
        pid, uid, comm = process.identity.pid, process.uid, process.comm[:COMM_LENGTH]
        flags = (PF_KTHREAD if kernel_thread else 0) | (PF_FORKNOEXEC if forked else 0)
        fields = [state, process.parent_pid, pid, pid, 0, -1, flags, *[0] * 10]
        fields += [threads, 0, process.identity.start_time_ticks, 0, 0]
        stat = b"%d (%b) " % (pid, comm) + " ".join(map(str, fields)).encode() + b"\n"
        (folder / "stat").write_bytes(stat)
        (folder / "comm").write_bytes(comm + b"\n")
        saved = process.saved_uid
        if process.in_container or process.in_pid_namespace:
            namespaces = 2
        if process.in_container:
            (folder / CONTAINED).touch()
        if not process.cgroup_is_roots:
            with (self.root / USERS_CGROUPS).open("a") as users:
                users.write(f"{process.cgroup}\n")
        if process.has_dynamic_uid:
            (self.root / DYNAMIC_UIDS / str(uid)).touch()
        nspid = "\t".join(map(str, range(pid, pid + namespaces)))
        (folder / "status").write_text(
            f"Name:\tx\nState:\t{state}\nPPid:\t{process.parent_pid}\n"
            f"Uid:\t{uid}\t{saved}\t{saved}\t{saved}\n"
            f"Threads:\t{threads}\nNSpid:\t{nspid}\nCapPrm:\t{0:016x}\nCapEff:\t{0:016x}\n"
        )
        (folder / "cmdline").write_bytes(b"".join(argument + b"\0" for argument in process.arguments))
        (folder / "cgroup").write_text(f"0::{process.cgroup}\n")
        if process.exe is not None and not (folder / "exe").is_symlink():
            os.symlink(process.exe, folder / "exe")
        if process.in_user_namespace:
            (folder / "uid_map").write_text("0 100000 65536\n")
        (folder / "oom_score_adj").write_text(f"{process.oom_score_adj}\n")

    def hold(self, pid: int, *, rss_pages: int, score: int = 666) -> None:
        """Give a process memory, all of it its own, and the score that the kernel states."""
        folder = self.root / str(pid)
        before, _, fields = (folder / "stat").read_bytes().rpartition(b") ")
        cells = fields.split()
        cells[21] = b"%d" % rss_pages
        (folder / "stat").write_bytes(before + b") " + b" ".join(cells) + b"\n")
        held = f"VmRSS:\t{rss_pages * 4} kB\nRssAnon:\t{rss_pages * 4} kB\nVmPTE:\t0 kB\nVmSwap:\t0 kB\n"
        with (folder / "status").open("a") as status:
            status.write(held)
        (folder / "oom_score").write_text(f"{score}\n")

    def pids(self) -> list[int]:
        """Return the pids there are."""
        return sorted(int(entry.name) for entry in self.root.iterdir() if entry.name.isdecimal())

    def oom_score_adj(self, pid: int) -> int:
        """Return the value a process has."""
        return int((self.root / str(pid) / "oom_score_adj").read_text())

    def oom_score_adjs(self) -> dict[int, int]:
        """Return the value of every process."""
        return {pid: self.oom_score_adj(pid) for pid in self.pids()}

    def set_oom_score_adj(self, pid: int, value: int) -> None:
        """Write a value as somebody else would."""
        (self.root / str(pid) / "oom_score_adj").write_text(f"{value}\n")

    def rename(self, pid: int, comm: bytes) -> None:
        """Have a process change its name."""
        folder = self.root / str(pid)
        before, _, fields = (folder / "stat").read_bytes().rpartition(b") ")
        (folder / "stat").write_bytes(before[: before.index(b"(") + 1] + comm + b") " + fields)
        (folder / "comm").write_bytes(comm + b"\n")

    def end(self, pid: int) -> None:
        """End a process."""
        for name in (self.root / str(pid)).iterdir():
            name.unlink()
        (self.root / str(pid)).rmdir()
