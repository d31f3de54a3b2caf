"""Short names for cgroups: the unit, pod or container."""

import re

from oomguard.core.cgroup import UNIT_SUFFIXES
from oomguard.core.text import legible

_CELLS = 36
_SHORT_ID = 8
_CONTAINER = re.compile(r"(?:[a-z]{1,20}-){0,2}(?P<id>[0-9a-f]{64})(?:\.scope)?")
"""A container of Docker, Podman, containerd or CRI-O, with systemd (a scope) or without."""
_POD = re.compile(r"(?:kubepods-)?(?:[a-z]{1,20}-)?pod(?P<id>[0-9a-f]{8}[0-9a-f_-]{24,28})(?:\.slice)?")
_USER = re.compile(r"/user\.slice/user-(\d{1,10})\.slice/.")


def cgroup_title(path: str) -> str:
    """Return a short name for a cgroup's path, printable.

    It is `nginx.service`, `app-firefox.scope (uid 1000)`, `pod 5931aa75`, `pod 5931aa75 (container 25a38b5b)`
    or `container 25a38b5b`, followed by what is below it; else the path, without its beginning if it is long.
    Names that users choose come last, so nobody can call a cgroup like a system service.
    """
    name, depth = _name(path.split("/"))
    if not name:
        return _short(legible(path))
    below = "/".join(path.split("/")[depth + 1 :])
    user = _USER.match(path)
    whose = f" (uid {user[1]})" if user is not None else ""
    return legible(name) + (f"/{_short(legible(below))}" if below else "") + whose


def _name(components: list[str]) -> tuple[str, int]:
    """Return the name of the outermost unit, container or else pod or slice, and its depth; "" for none."""
    name, at, pod, is_systemds = "", 0, "", True
    for depth, component in enumerate(components[1:], 1):
        if (found := _CONTAINER.fullmatch(component)) is not None:
            container = f"container {found['id'][:_SHORT_ID]}"
            return (f"{pod} ({container})" if pod else container), depth
        if (found := _POD.fullmatch(component)) is not None:
            name = pod = f"pod {found['id'][:_SHORT_ID]}"
            at = depth
        elif not is_systemds or pod:
            continue
        elif component.endswith(".slice") or component.startswith("user@"):
            name, at = component, depth
        elif component.endswith(UNIT_SUFFIXES):
            return component, depth
        else:
            is_systemds = False
    return name, at


def _short(text: str) -> str:
    """Return a path, without its beginning if it is long."""
    if len(text) <= _CELLS:
        return text
    last = text.rpartition("/")[2]
    return f"…/{last}" if len(last) < _CELLS else f"…{last[1 - _CELLS :]}"
