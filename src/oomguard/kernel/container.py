"""Which processes are in a container, and not only in a PID namespace, which any user can create."""

from contextlib import ExitStack

from oomguard.core.cgroup import is_container
from oomguard.core.process import INIT_PID
from oomguard.core.typed import TYPE_CHECKING
from oomguard.kernel.proc_files import GONE

if TYPE_CHECKING:
    from collections.abc import Callable

    from oomguard.kernel.procfs import ProcessHandle

ANCESTORS = 64
"""Maximum number of ancestors followed: only a tree made to mislead is deeper."""

_LIMIT = 2048
"""Maximum number of processes remembered: 0.2 MiB. Those that ended stay until there are so many."""


class Containers:
    """Decides for processes, and remembers those that are in a container."""

    def __init__(self) -> None:
        self._known: dict[int, int] = {}
        """By pid, the inode of a process in a container."""

    def hold(
        self, handle: "ProcessHandle", open_process: "Callable[[int], ProcessHandle | None]"
    ) -> bool | None:
        """Return whether a process in a nested PID namespace is in a container, None if that cannot be known.

        `open_process` opens its ancestors.
        The namespace's first process decides, or the one that entered it from outside. If that is a
        sandbox, its creator may be in a container. An attacker can arrange parents, but not the cgroups that
        `is_container` checks.
        """
        with ExitStack() as stack:
            inner, passed, is_known = handle, dict[int, int](), True
            for _ in range(ANCESTORS):
                try:
                    status = inner.status
                    if status.namespace_depth <= 1:
                        return False if is_known else None
                    passed[inner.pid] = inner.inode
                    if self._known.get(inner.pid) == passed[inner.pid]:
                        self._remember(passed)
                        return True
                    outer = open_process(status.parent_pid)
                    if outer is None:
                        raise ProcessLookupError
                    with stack.pop_all():  # which has `inner`: a user must not have all held open
                        stack.enter_context(outer)
                        if outer.status.namespace_depth < status.namespace_depth:
                            found = _is_first_of_container(inner, outer)
                            if found:
                                self._remember(passed)
                                return True
                            is_known = is_known and found is False
                        inner = outer
                except GONE:
                    # An ancestor ended, so its children have another parent. Start again.
                    inner, passed, is_known = handle, {}, True
                    handle.forget_status()
        return None

    def _remember(self, inodes: dict[int, int]) -> None:
        """Remember that these are in a container, which no process leaves."""
        if len(self._known) >= _LIMIT:
            self._known.clear()
        self._known.update(inodes)


def _is_first_of_container(inner: "ProcessHandle", outer: "ProcessHandle") -> bool | None:
    """Return whether `outer`, outside of the namespace of its child `inner`, is a container's runtime."""
    # LXC and systemd-nspawn give the cgroup to the container's own root.
    is_roots = inner.cgroup_is_roots is not False or _is_the_hosts_root(outer)
    return is_container(inner.cgroup, is_roots=is_roots, maker=outer.cgroup if outer.pid > INIT_PID else None)


def _is_the_hosts_root(handle: "ProcessHandle") -> bool:
    """Return whether a process is root's, and not of a user by a setuid program or in a user namespace."""
    return handle.uid == 0 and not handle.in_user_namespace
