"""Which uids root has granted to users in addition to their own, as subuid(5) has it."""

from contextlib import suppress

FILE = "/etc/subuid"
_LIMIT = 1 << 20
_HIGHEST = (1 << 32) - 2


def load(file: str) -> dict[str, list[int]]:
    """Return the ranges that `parse` finds in a file; none if it cannot be read."""
    with suppress(OSError), open(file, "rb") as opened:
        return parse(opened.read(_LIMIT))
    return {}


def parse(raw: bytes) -> dict[str, list[int]]:
    """Return by user, a name or a uid in digits, the first and the last uid of each range."""
    found: dict[str, list[int]] = {}
    for line in raw.split(b"\n"):
        user, *numbers = line.strip().split(b":")
        if len(numbers) != 2 or not all(number.isdigit() and len(number) <= 10 for number in numbers):
            continue
        first, count = map(int, numbers)
        last = min(first + count - 1, _HIGHEST)
        if user and 0 < first <= last:
            found.setdefault(user.decode("utf-8", "surrogateescape"), []).extend((first, last))
    return found
