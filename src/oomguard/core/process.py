"""A process as it was observed, and the questions rules ask about one."""

from typing import NamedTuple, Protocol

COMM_LENGTH = 15
"""Bytes of a process name the kernel keeps (TASK_COMM_LEN less the NUL, include/linux/sched.h)."""

INIT_PID = 1
"""The first process, which orphans become children of. The kernel never kills it."""

DELETED = " (deleted)"
"""What the kernel puts behind the path of a file that is gone (fs/d_path.c)."""


class Identity(NamedTuple):
    """A pid alone is reused; with the start time it is one process for as long as the host is up."""

    pid: int
    start_time_ticks: int


class UnknownFactError(Exception):
    """A fact of a process that could not be had in time; the message is why, for a person.

    `is_transient` tells that it is worth asking again at once: not the process is slow, but this host.
    """

    def __init__(self, reason: str, *, is_transient: bool = False) -> None:
        super().__init__(reason)
        self.is_transient = is_transient


class Program(NamedTuple):
    """The file that a process runs, compared with what the host has there."""

    path: str
    """As the process sees it, which may have mounts of its own; without ` (deleted)`."""
    is_hosts: bool = False
    """Whether that path is the very same file on the host."""
    only_root_changes: bool = False
    """Whether, moreover, nobody but root can change it, or any folder above it."""


class Facts(Protocol):
    """The facts about a process that rules use. Each may cost a system call, so read them late.

    Facts that the process can delay (`arguments`, `program`) may raise UnknownFactError.
    """

    @property
    def comm(self) -> bytes:
        """The name the kernel keeps, at most 15 bytes, chosen by the process itself."""

    @property
    def arguments(self) -> tuple[bytes, ...]:
        """The command line; empty for kernel threads and zombies."""

    @property
    def uid(self) -> int:
        """The real uid: a setuid program has its starter's, a root daemon that works for a user root's."""

    @property
    def saved_uid(self) -> int:
        """The saved uid, to which it can switch: a program that gave up its rights for good has no other."""

    @property
    def cgroup(self) -> str:
        """The cgroup path that systemd manages."""

    @property
    def exe(self) -> str | None:
        """The executable's path, or None where the caller may not read it."""

    @property
    def program(self) -> Program | None:
        """The executable held against the host's, or None where the caller may not look at it."""

    @property
    def has_dynamic_uid(self) -> bool:
        """Whether systemd made up its real uid for a service that runs now (DynamicUser=)."""

    @property
    def cgroup_is_roots(self) -> bool | None:
        """Whether nobody but root can have made its cgroup; None where that cannot be seen."""

    @property
    def in_container(self) -> bool:
        """Whether it lives in a container, as `core.cgroup.is_container` tells those from sandboxes."""

    @property
    def in_pid_namespace(self) -> bool:
        """Whether it lives in a PID namespace below the host's: in a container, or a sandbox."""

    @property
    def in_user_namespace(self) -> bool:
        """Whether it lives in a user namespace below the host's, where root is not root."""


class Process(NamedTuple):
    """A process with all facts known, for tests, replays and `explain`."""

    identity: Identity
    comm: bytes
    parent_pid: int = 1
    arguments: tuple[bytes, ...] = ()
    uid: int = 0
    saved: int | None = None
    """The saved uid where it differs."""
    has_dynamic_uid: bool = False
    cgroup: str = "/"
    cgroup_is_roots: bool | None = True
    exe: str | None = None
    program: Program | None = None
    in_pid_namespace: bool = False
    in_container: bool = False
    in_user_namespace: bool = False
    oom_score_adj: int = 0

    @property
    def saved_uid(self) -> int:
        """The saved uid."""
        return self.uid if self.saved is None else self.saved


def full_name(comm: bytes, arguments: tuple[bytes, ...]) -> bytes:
    """Return the whole name of a process whose `comm` fills its 15 bytes.

    The first argument whose base name begins with `comm` tells: `argv[0]` of a program, the
    script's path of an interpreter. Where none does, `comm` is all there is.
    """
    if len(comm) < COMM_LENGTH:
        return comm
    for argument in arguments[:4]:
        base = argument.rpartition(b"/")[2]
        if base.startswith(comm):
            # A program that rewrites its title puts spaces after its name.
            return base.split(b" ", 1)[0] if b" " not in comm else base
    return comm
