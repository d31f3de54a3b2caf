"""The lowest uid of a person on this host, from login.defs(5)."""

from contextlib import suppress

from oomguard.core.policy import FIRST_PERSON_UID

FILES = ("/etc/login.defs", "/usr/etc/login.defs")
"""The administrator's file, then the vendor's."""


def first_person_uid(files: tuple[str, ...] = FILES) -> int:
    """Return the lowest uid that a person may have."""
    for file in files:
        with suppress(OSError), open(file, "rb") as opened:
            return parse(opened.read(65536))
    return FIRST_PERSON_UID


def parse(raw: bytes) -> int:
    """Return the lowest uid of a person: UID_MIN, if that is lower than usual.

    A higher one is only where useradd(8) starts; older accounts of people may be below.
    """
    found = FIRST_PERSON_UID
    for line in raw.split(b"\n"):
        words = line.split()
        if len(words) >= 2 and words[0] == b"UID_MIN":
            with suppress(ValueError):
                found = int(words[1].strip(b'"'), 0)
    return min(max(found, 1), FIRST_PERSON_UID)
