"""A record of the kernel's log as /dev/kmsg gives it (kernel/printk/printk.c:info_print_ext_header)."""

import re

from oomguard.core.typed import NamedTuple

_RECORD = re.compile(r"(?:\d[\w.+-]{0,80},)?(\d{1,6}),\d{1,20},(\d{1,20}),[^;\n]{0,80};([^\n]*)")
_ESCAPED = re.compile(r"\\x([0-9a-f]{2})")
_FACILITY_SHIFT = 3


class Record(NamedTuple):
    """A message, when it was written after boot, and whether the kernel wrote it: programs can, too."""

    uptime_us: int
    text: str
    is_kernels: bool


def parse_record(raw: str) -> Record | None:
    r"""Parse `prio,seq,usec,flags;text` with whatever lines follow; None for anything else.

    netconsole may put the kernel's release in front.

    Control characters, the backslash and all but ASCII are escaped in it, `\x0a` for a newline.
    """
    found = _RECORD.match(raw)
    if found is None:
        return None
    # Only the kernel can use facility 0, kern; a program's record gets another (devkmsg_write).
    return Record(int(found[2]), _unescaped(found[3]), int(found[1]) >> _FACILITY_SHIFT == 0)


def _unescaped(text: str) -> str:
    if "\\x" not in text:
        return text
    raw = _ESCAPED.sub(lambda found: chr(int(found[1], 16)), text)
    try:
        return raw.encode("latin-1").decode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return raw  # it was not such a record
