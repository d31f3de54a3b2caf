"""Finds the unit in a cgroup path, as systemd's `cg_path_get_unit` does, and recognizes containers."""

from collections.abc import Iterator

UNIT_SUFFIXES = (".service", ".scope", ".socket", ".mount", ".swap", ".slice", ".target", ".automount")
_USER_MANAGER = "user@"


def parse_cgroup(raw: bytes) -> str:
    """Return the path that systemd manages, from `/proc/PID/cgroup`; "/" if there is none.

    On cgroup v1 and hybrid hosts that is the `name=systemd` hierarchy, else the unified one.
    """
    unified = "/"
    # Not splitlines: users may name their cgroups with any line break that it knows, and the kernel
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
    """Return the system manager's unit (`ssh.service`, `session-3.scope`), "" if there is none."""
    unit, _ = _first_unit(path.split("/"))
    return unit


def user_unit(path: str) -> str:
    """Return the unit inside a user's own service manager, "" if there is none."""
    unit, rest = _first_unit(path.split("/"))
    if not (unit.startswith(_USER_MANAGER) and unit.endswith(".service")):
        return ""
    inner, _ = _first_unit(rest)
    return inner


def in_system_service(path: str) -> bool:
    """Return whether the path is a service below `system.slice`, where only root puts processes.

    A scope there may be a container, and what is below a user's slice is the user's.
    """
    return path.startswith("/system.slice/") and system_unit(path).endswith(".service")


def is_system_service(path: str) -> bool:
    """Return whether the path is such a service itself, not a cgroup that it created."""
    unit, below = _first_unit(path.split("/"))
    return path.startswith("/system.slice/") and unit.endswith(".service") and not below


def in_user_slice(path: str) -> bool:
    """Return whether the path is below `user.slice`, with users' sessions and service managers."""
    return path.startswith("/user.slice/")


def is_without_containers(path: str) -> bool:
    """Return whether no runtime puts a container into the cgroup `path` itself."""
    return in_user_slice(path) or is_system_service(path)


def budget_key(path: str, real_uid: int) -> str:
    """Return the key for the cost of a process: its user's slice, its unit, "root" or "untrusted users".

    Everything that one user can start shares one key, and only root can make more keys. So the uid counts
    only as root's or not: subordinate uids (subuid(5)) give every user 65,536 of them. In a system
    service, processes of other users have a separate key, because cron runs users' jobs there; and so in
    a scope, which outside of user.slice is mostly a container.
    """
    if in_user_slice(path):
        user = path.split("/", 3)[2]
        return user if user.startswith("user-") and user.endswith(".slice") else "untrusted users"
    unit = system_unit(path)
    if real_uid == 0:
        return unit or "root"
    is_roots = in_system_service(path) or unit.endswith(".scope")
    return f"{unit} (unprivileged)" if is_roots else "untrusted users"


def is_container(path: str, *, is_roots: bool | None, maker: str | None) -> bool | None:
    """Return whether the first process of a PID namespace, in the cgroup `path`, is a container's.

    A runtime creates a cgroup for each container, and stays outside of it. Any user can create a PID
    namespace, as browsers do for sandboxes, but no cgroup above the user's own. So if only root can have
    created it, it is a container, else a sandbox: no user can escape a rule with a namespace.

    `is_roots` is whether only root can have created the cgroup, or root did create the namespace, None if
    unknown; `maker` is the cgroup of the process that created the namespace. That is None if it ended or is
    PID 1, as for PrivatePIDs= of systemd: then None is returned, as its runtime may have ended.
    """
    if is_without_containers(path) or maker == path or is_roots is False:
        return False
    return None if maker is None else True


def folders_above(path: str) -> Iterator[str]:
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
