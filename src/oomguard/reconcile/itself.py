"""Which processes are oomguard: no rule matches them, whoever asks."""

from typing import TYPE_CHECKING, NamedTuple

from oomguard.core.process import INIT_PID

if TYPE_CHECKING:
    from oomguard.core.process import Identity
    from oomguard.kernel.procfs import ProcessHandle


class Itself(NamedTuple):
    """The process that asks, and the daemon if one runs; its only child is the reader of its policy."""

    own_pid: int
    daemon: "Identity | None" = None

    def covers(self, handle: "ProcessHandle") -> bool:
        """Tell whether a process is one of them. Raises one of GONE if it ended."""
        if handle.pid == self.own_pid:
            return True
        if self.daemon is None:
            return False
        is_init = self.daemon.pid == INIT_PID  # in a container, where every orphan is its child
        return handle.identity == self.daemon or (not is_init and handle.stat.parent_pid == self.daemon.pid)
