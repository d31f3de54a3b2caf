"""A tree that knows floors, as fs/proc/base.c:__set_oom_adj keeps them."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from fakeproc import FakeKernel
from oomguard.kernel.floor import Privilege
from oomguard.kernel.procfs import ProcessHandle


class FakePrivilege(Privilege):
    """CAP_SYS_RESOURCE in the tree. `is_permitted` may be raised, `is_effective` counts now."""

    def __init__(self, *, is_permitted: bool = True, moves_every_floor: bool = False) -> None:
        self.is_permitted = is_permitted
        self.moves_every_floor = moves_every_floor
        self.is_effective = moves_every_floor

    @contextmanager
    def raised(self) -> Iterator[bool]:
        """Have it in effect for the block, if it is permitted."""
        self.is_effective = self.is_permitted
        try:
            yield self.is_effective
        finally:
            self.is_effective = self.moves_every_floor


class FlooredKernel(FakeKernel):
    """Writes below a floor are refused without the privilege, and with it move the floor."""

    def __init__(self, root: str, privilege: FakePrivilege) -> None:
        super().__init__(root)
        self.privilege = privilege
        self.floors: dict[int, int] = {}
        self.writes: list[tuple[int, int, bool]] = []
        self.refused: list[int] = []

    def floor(self, pid: int) -> int:
        """Return how low a process may go by itself."""
        return self.floors.get(pid, 0)

    def open(self, pid: int) -> ProcessHandle | None:
        """Open a process whose value has a floor."""
        handle = super().open(pid)
        return None if handle is None else _Handle(self, pid, os.dup(handle.fd), handle)


class _Handle(ProcessHandle):
    def __init__(self, kernel: FlooredKernel, pid: int, fd: int, plain: ProcessHandle) -> None:
        super().__init__(pid, fd, kernel)
        os.close(plain.fd)
        self._kernel = kernel

    def write_oom_score_adj(self, value: int) -> None:
        """Write as the kernel lets the fake privilege write."""
        kernel = self._kernel
        effective = kernel.privilege.is_effective
        if value < kernel.floor(self.pid) and not effective:
            kernel.refused.append(self.pid)
            raise OSError(errno.EACCES, "Permission denied")
        kernel.writes.append((self.pid, value, effective))
        super().write_oom_score_adj(value)
        if effective:
            kernel.floors[self.pid] = value
