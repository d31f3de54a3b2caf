"""The users of this host, with the uids that root granted them in addition, and which of them are people."""

import pwd
from contextlib import suppress

from oomguard.core.policy import FIRST_PERSON_UID, LOGIN_DEFS, SUBUID_FILE, USERS_FILE
from oomguard.core.text import printable

_SIZE_LIMIT, _BLOCK = 1 << 24, 1 << 16
_UID_MAX = (1 << 32) - 2


class Users:
    """User names and their uids on this host, each looked up once, and subordinate uids."""

    def __init__(self, subuid_file: str = SUBUID_FILE) -> None:
        self._known: dict[str, int | None] = {}
        self._asked: set[str] = set()
        self._subuid_file = subuid_file
        self._granted: dict[str, list[int]] | None = None

    def uid(self, user: str | int) -> int | None:
        """Return the uid of a user, None if this host has no such user."""
        if isinstance(user, int):
            return user
        if user not in self._known:
            self._asked.add(user)
            self._known[user] = None
            with suppress(KeyError, ValueError):
                self._known[user] = pwd.getpwnam(user).pw_uid
        return self._known[user]

    @property
    def are_local(self) -> bool:
        """Whether all that were looked up are in /etc/passwd: what is elsewhere (LDAP) may change unseen."""
        lines = (_read(USERS_FILE) or b"").split(b"\n") if self._asked else []
        known = (field for line in lines for field in line.split(b":")[:3:2])
        return self._asked <= {field.decode("utf-8", "surrogateescape") for field in known}

    def subuids(self, user: str | int) -> list[int]:
        """Return the first and the last uid of each range that was granted to a user."""
        if self._granted is None:
            self._granted = parse_subuid(_read(self._subuid_file) or b"")
        uid = self.uid(user)
        if not self._granted or uid is None:
            return []
        names = {str(user), str(uid)}
        with suppress(KeyError):
            self._asked.add(str(uid))
            names.add(pwd.getpwuid(uid).pw_name)
        return [bound for name in sorted(names) for bound in self._granted.get(name, ())]


def user_name(uid: int) -> str | None:
    """Return the name of a user, for people; None if this host has no such user."""
    try:
        return printable(pwd.getpwuid(uid).pw_name)
    except KeyError:
        return None


def parse_subuid(raw: bytes) -> dict[str, list[int]]:
    """Return by user, a name or a uid in digits, the first and the last uid of each range."""
    found: dict[str, list[int]] = {}
    for line in raw.split(b"\n"):
        user, *numbers = line.strip().split(b":")
        if len(numbers) != 2 or not all(number.isdigit() and len(number) <= 10 for number in numbers):
            continue
        first, count = map(int, numbers)
        last = min(first + count - 1, _UID_MAX)
        if user and 0 < first <= last:
            found.setdefault(user.decode("utf-8", "surrogateescape"), []).extend((first, last))
    return found


def first_person_uid(files: tuple[str, ...] = LOGIN_DEFS) -> int:
    """Return the lowest uid that a person may have, from the first of these files that can be read.

    It is UID_MIN (login.defs(5)), if that is lower than usual. A higher one is only where useradd(8) starts;
    older accounts of people may be below.
    """
    found = FIRST_PERSON_UID
    raw = next((raw for file in files if (raw := _read(file)) is not None), b"")
    for words in map(bytes.split, raw.split(b"\n")):
        if len(words) >= 2 and words[0] == b"UID_MIN":
            with suppress(ValueError):
                found = int(words[1].strip(b'"'), 0)
    return min(max(found, 1), FIRST_PERSON_UID)


def _read(file: str) -> bytes | None:
    """Return the beginning of a file, None if it cannot be read."""
    with suppress(OSError), open(file, "rb") as opened:
        content = bytearray()
        while len(content) < _SIZE_LIMIT and (
            block := opened.read(_BLOCK)
        ):  # all at once takes all in memory
            content += block
        return bytes(content)
    return None
