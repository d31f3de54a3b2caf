"""The identity of a process, and its facts that rules use."""

from oomguard.core.typed import NamedTuple, Protocol

COMM_LENGTH = 15
"""Bytes of a process name that the kernel keeps (TASK_COMM_LEN less the NUL, include/linux/sched.h)."""

INIT_PID = 1
"""The first process, the parent of orphans. The kernel never kills it."""

NAME_LIMIT = 255
"""Bytes of a file name at most (NAME_MAX, include/uapi/linux/limits.h): what is longer in a title is cut."""

CMDLINE_LIMIT = 4096
"""Bytes read of a command line, because its owner chooses the length."""

DELETED = " (deleted)"
"""What the kernel appends to the path of a deleted file (fs/d_path.c)."""


class Identity(NamedTuple):
    """A pid and a start time: pids are reused, but both together identify one process until a reboot."""

    pid: int
    start_time_ticks: int


class UnknownFactError(Exception):
    """A fact of a process could not be read in time; the message says why.

    `is_transient`: the host is slow, not the process, so another try at once may succeed.
    """

    def __init__(self, reason: str, *, is_transient: bool = False) -> None:
        super().__init__(reason)
        self.is_transient = is_transient


class Program(NamedTuple):
    """The file that a process runs, compared with the host's file of that path."""

    path: str
    """The path as the process sees it, which may have its own mounts; without ` (deleted)`."""
    is_hosts: bool = False
    """Whether it is the same file as the host's."""
    only_root_changes: bool = False
    """Whether, in addition, only root can change it and all folders above."""


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
        """The real uid: of a setuid program its caller's, of a root daemon that works for a user root's."""

    @property
    def likely_uid(self) -> int:
        """The real uid, or if that cannot be read in time, the effective one: enough to raise a process."""

    @property
    def saved_uid(self) -> int:
        """The saved uid, to which it can switch; a program that gave up its rights for good has no other."""

    @property
    def cgroup(self) -> str:
        """The cgroup path that systemd manages."""

    @property
    def exe(self) -> str | None:
        """The executable's path, None if the caller may not read it."""

    @property
    def program(self) -> Program | None:
        """The executable compared with the host's file, None if the caller may not read it."""

    @property
    def has_dynamic_uid(self) -> bool:
        """Whether systemd allocated its real uid for a running service (DynamicUser=)."""

    @property
    def cgroup_is_roots(self) -> bool | None:
        """Whether only root can have created its cgroup, None if that is not visible."""

    @property
    def in_container(self) -> bool | None:
        """Whether it is in a container, as `core.cgroup.is_container` defines it; None if that is unknown."""

    @property
    def in_pid_namespace(self) -> bool:
        """Whether it is in a nested PID namespace: of a container or a sandbox."""

    @property
    def in_user_namespace(self) -> bool:
        """Whether it is in a nested user namespace, where root is not the host's root."""


class Process(NamedTuple):
    """A process with all facts known, for tests, replays and `explain`."""

    identity: Identity
    comm: bytes
    parent_pid: int = 1
    arguments: tuple[bytes, ...] = ()
    uid: int = 0
    saved: int | None = None
    """The saved uid if it differs."""
    has_dynamic_uid: bool = False
    cgroup: str = "/"
    cgroup_is_roots: bool | None = True
    exe: str | None = None
    program: Program | None = None
    in_pid_namespace: bool = False
    in_container: bool | None = False
    in_user_namespace: bool = False
    oom_score_adj: int = 0

    @property
    def likely_uid(self) -> int:
        """The real uid."""
        return self.uid

    @property
    def saved_uid(self) -> int:
        """The saved uid."""
        return self.uid if self.saved is None else self.saved


def full_name(comm: bytes, arguments: tuple[bytes, ...]) -> bytes:
    """Return the full name of a process whose `comm` has all 15 bytes.

    It is the base name of the first argument whose base name starts with `comm`: of `argv[0]`, or of the
    script that an interpreter runs. If there is none, it is `comm`.
    """
    if len(comm) < COMM_LENGTH:
        return comm
    for argument in arguments[:4]:
        base = argument.rpartition(b"/")[2]
        if base.startswith(comm):
            # A program that rewrites its title puts spaces after its name.
            return (base.split(b" ", 1)[0] if b" " not in comm else base)[:NAME_LIMIT]
    return comm
