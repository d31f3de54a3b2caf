"""The mounts of a mount namespace, from /proc/PID/mountinfo."""

from collections.abc import Iterator

from oomguard.core.typed import NamedTuple


class Mount(NamedTuple):
    """A mount: its mount point, the folder of the file system it shows, its type and options."""

    point: str
    root: str
    kind: str
    options: list[str]


def parse_mounts(raw: bytes) -> Iterator[Mount]:
    """Yield the mounts in their order: of two at one mount point, the later hides the earlier."""
    for line in raw.decode("utf-8", "surrogateescape").removesuffix("\n").split("\n"):
        before, _, after = line.partition(" - ")
        fields, (kind, _, options, *_) = before.split(" "), (*after.split(" "), "", "", "")
        if len(fields) > 4:
            yield Mount(_unescape(fields[4]), _unescape(fields[3]), kind, options.split(","))


def _unescape(text: str) -> str:
    """Undo the octal escapes of mountinfo (fs/seq_file.c:mangle_path)."""
    for escaped, character in ((r"\040", " "), (r"\011", "\t"), (r"\012", "\n"), (r"\134", "\\")):
        text = text.replace(escaped, character)
    return text
