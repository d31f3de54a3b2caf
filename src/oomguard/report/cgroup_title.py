"""What people call a cgroup: its unit, pod or container."""

import re

from oomguard.core.cgroup import UNIT_SUFFIXES
from oomguard.core.text import printable

_CELLS = 36
_SHORT_ID = 8
_CONTAINER = re.compile(r"(?:[a-z]{1,20}-){0,2}(?P<id>[0-9a-f]{64})(?:\.scope)?")
"""A container of Docker, Podman, containerd or CRI-O, with systemd (a scope) or without."""
_POD = re.compile(r"(?:kubepods-)?(?:[a-z]{1,20}-)?pod(?P<id>[0-9a-f]{8}[0-9a-f_-]{24,28})(?:\.slice)?")


def cgroup_title(path: str) -> str:
    """Return a short name for a cgroup's path, printable.

    It is `nginx.service`, `pod 5931aa75`, `pod 5931aa75 (container 25a38b5b)` or `container 25a38b5b`, with
    what is below a unit or container behind it; else the path, without its beginning if it is long.
    """
    components = path.split("/")
    for depth in range(len(components) - 1, 0, -1):
        name = _name(components, depth)
        if name:
            return printable("/".join([name, *components[depth + 1 :]]))
    text = printable(path)
    if len(text) <= _CELLS:
        return text
    last = text.rpartition("/")[2]
    return f"…/{last}" if len(last) < _CELLS else f"…{last[1 - _CELLS :]}"


def _name(components: list[str], depth: int) -> str:
    component = components[depth]
    container = _CONTAINER.fullmatch(component)
    if container is not None:
        pod = _POD.fullmatch(components[depth - 1])
        name = f"container {container['id'][:_SHORT_ID]}"
        return name if pod is None else f"pod {pod['id'][:_SHORT_ID]} ({name})"
    pod = _POD.fullmatch(component)
    if pod is not None:
        return f"pod {pod['id'][:_SHORT_ID]}"
    return component if component.endswith(UNIT_SUFFIXES) else ""
