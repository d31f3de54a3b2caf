"""The mounts of a mount namespace, from /proc/PID/mountinfo."""

from collections.abc import Iterable, Iterator

from oomguard.core.typed import NamedTuple


class Mount(NamedTuple):
    """A mount: its mount point and flags, and the file system's type, options and number.

    `root` is the folder of the file system that it shows.
    """

    point: str
    root: str
    kind: str
    options: list[str]
    device: str
    flags: list[str]


def parse_mounts(lines: Iterable[bytes]) -> Iterator[Mount]:
    """Yield the mounts in their order: of two at one mount point, the later hides the earlier.

    Line by line: a user may mount 1,000 file systems (fusermount3) at paths of 16 KiB as they are escaped.
    """
    for line in lines:
        before, _, after = line.decode("utf-8", "surrogateescape").removesuffix("\n").partition(" - ")
        fields, (kind, _, options, *_) = before.split(" "), (*after.split(" "), "", "", "")
        if len(fields) > 5:
            device, root, point, flags = fields[2:6]
            yield Mount(_unescape(point), _unescape(root), kind, options.split(","), device, flags.split(","))


def find_cgroups(mounts: Iterable[Mount], controller: str) -> Mount | None:
    """Return the mount of version 1 with a controller, else the first of version 2, None without either."""
    unified = None
    for mount in mounts:
        if mount.kind == "cgroup" and controller in mount.options:
            return mount
        if mount.kind == "cgroup2" and unified is None:
            unified = mount
    return unified


def _unescape(text: str) -> str:
    """Undo the octal escapes of mountinfo (fs/seq_file.c:mangle_path)."""
    for escaped, character in ((r"\040", " "), (r"\011", "\t"), (r"\012", "\n"), (r"\134", "\\")):
        text = text.replace(escaped, character)
    return text
