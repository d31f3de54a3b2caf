"""What a cgroup path tells: its unit, as systemd's `cg_path_get_unit` reads it, and which are containers."""

from typing import TYPE_CHECKING

UNIT_SUFFIXES = (".service", ".scope", ".socket", ".mount", ".swap", ".slice", ".target", ".automount")
_USER_MANAGER = "user@"

if TYPE_CHECKING:
    from collections.abc import Iterator


def parse_cgroup(raw: bytes) -> str:
    """Return the path that systemd manages out of `/proc/PID/cgroup`; "/" where there is none.

    On cgroup v1 and hybrid hosts that is the `name=systemd` hierarchy, else the unified one.
    """
    unified = "/"
    # Not splitlines: a user may name a cgroup of his own with any of the breaks it knows, and the kernel
    # forbids only the newline (kernel/cgroup/cgroup.c:cgroup_mkdir).
    for line in raw.decode("utf-8", "surrogateescape").split("\n"):
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers == "name=systemd":
            return path
        if not controllers and path:
            unified = path
    return unified


def system_unit(path: str) -> str:
    """Return the system manager's unit (`ssh.service`, `session-3.scope`), "" where there is none."""
    unit, _ = _first_unit(path.split("/"))
    return unit


def user_unit(path: str) -> str:
    """Return the unit inside a user's own service manager, "" where there is none."""
    unit, rest = _first_unit(path.split("/"))
    if not (unit.startswith(_USER_MANAGER) and unit.endswith(".service")):
        return ""
    inner, _ = _first_unit(rest)
    return inner


def in_system_service(path: str) -> bool:
    """Tell whether the path is a service below `system.slice`, where only root puts processes.

    A scope there may be a container, and what is below a user's slice is the user's.
    """
    return path.startswith("/system.slice/") and system_unit(path).endswith(".service")


def is_system_service(path: str) -> bool:
    """Tell whether the path is that of such a service itself, and not of a cgroup that it made."""
    return in_system_service(path) and path.endswith(f"/{system_unit(path)}")


def in_user_slice(path: str) -> bool:
    """Tell whether the path is below `user.slice`, where people's sessions and service managers are."""
    return path.startswith("/user.slice/")


def budget_key(path: str, real_uid: int) -> str:
    """Return what a process's cost is charged to: its user's slice, its system unit, "root" or "untrusted".

    Everything that one user can start shares one key, and only root can make more keys. So the uid counts
    only as root's or not: subordinate uids (subuid(5)) give every user 65,536 of them. In a system
    service, what does not run as root has a key apart, because cron runs the jobs of people there.
    """
    if in_user_slice(path):
        user = path.split("/", 3)[2]
        return user if user.startswith("user-") and user.endswith(".slice") else "untrusted"
    unit = system_unit(path)
    if real_uid == 0:
        return unit or "root"
    return f"{unit} (unprivileged)" if in_system_service(path) else "untrusted"


def is_container(path: str, *, is_roots: bool | None, maker: str | None) -> bool:
    """Tell whether the first process of a PID namespace, in the cgroup `path`, is a container's.

    A runtime makes a container a cgroup of its own, and stays outside. Any user can make a PID namespace,
    as browsers do for their sandboxes, but no cgroup above his own. So whatever only root can have put
    there is a container, and the rest is a sandbox: no user leaves a rule by making one.

    `is_roots` tells whether nobody but root can have made the cgroup, None where that cannot be seen;
    `maker` is the cgroup of the process that made the namespace, None if it ended or is PID 1, as it is for
    PrivatePIDs= of systemd.
    """
    return (
        is_roots is not False
        and not in_user_slice(path)
        and not is_system_service(path)
        and maker is not None
        and maker != path
    )


def folders_above(path: str) -> "Iterator[str]":
    """Yield the paths of the cgroups above one, the root first."""
    at = path.find("/")
    while at >= 0 and path != "/":
        yield path[:at] or "/"
        at = path.find("/", at + 1)


def _first_unit(components: list[str]) -> tuple[str, list[str]]:
    """Return the first component that is a unit and not a slice, and the components below it."""
    for depth, component in enumerate(components):
        if not component or component.endswith(".slice"):
            continue
        name = component.removeprefix("_")  # systemd escapes names that look like cgroup files
        if name.endswith(UNIT_SUFFIXES) and not name.startswith("."):
            return name, components[depth + 1 :]
        return "", []
    return "", []
