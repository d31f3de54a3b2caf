"""An entry of the ledger: what a value was without oomguard, and what oomguard set."""

from oomguard.core.typed import NamedTuple


class Entry(NamedTuple):
    """The ledger's entry for a value: the original, and the one oomguard set.

    `given_before` is what oomguard had set before `given`; children may still have inherited it.
    `is_written` is False from just before a write until it has happened: the value is then `given` or the
    one before. `since_ticks` is when the first of these two was set for a process, in the clock of start
    times: processes that started earlier cannot have inherited either. `moved_floor`: it needed
    CAP_SYS_RESOURCE, which moves the floor (`oom_score_adj_min`). `made` is the value the kernel set if it is
    not `given`, else None.
    `is_grant_pending`: the kernel may grant only a part, and how much is not known yet.
    """

    original: int
    given: int
    given_before: int | None = None
    since_ticks: int = 0
    moved_floor: bool = False
    made: int | None = None
    is_grant_pending: bool = False
    is_written: bool = True

    def is_ours(self, value: int) -> bool:
        """Return whether oomguard set `value`; if not, something else changed it since."""
        if value == (self.given if self.made is None else self.made):
            return True
        if self.is_grant_pending:
            low, high = sorted((self.original, self.given))
            if low <= value <= high:
                return True
        return not self.is_written and value == self.given_before

    def was_ours(self, value: int) -> bool:
        """Return whether oomguard set `value`, now or before: a child may have inherited it."""
        return value == self.given_before or self.is_ours(value)

    def after_crash(self, value: int) -> "Entry | None":
        """Return the entry after a crash; the current value shows whether the write happened.

        None: oomguard has set nothing. If something else has set the value meanwhile, it counts as written:
        the write follows its record at once, but its confirmation up to a second later.
        """
        written = self._replace(is_written=True)
        if self.is_written or value not in (self.original, self.given_before):
            return written
        if self.given_before is None:
            return None
        return written._replace(given=self.given_before, given_before=None, made=None, is_grant_pending=False)


def intended(
    known: Entry | None,
    own: int,
    before: int,
    after: int,
    since_ticks: int = 0,
    *,
    moved_floor: bool = False,
    is_grant_pending: bool = False,
) -> Entry:
    """Return the entry for a write of `after` over `before`, as it is once that is made."""
    given_before, original = None, own if known is None else known.original
    if known is not None and known.is_ours(before):
        given_before, since_ticks = before, known.since_ticks
    return Entry(original, after, given_before, since_ticks, moved_floor, None, is_grant_pending)


def own_value(entry: Entry | None, value: int) -> int:
    """Return the own value: the one without oomguard, given that it is `value` now.

    That is the original one, or what something else has set since.
    """
    return entry.original if entry is not None and entry.is_ours(value) else value
