"""Budgets for something shared, so that one user cannot take all of it."""

from oomguard.core.typed import NamedTuple

_KEYS = 1024
"""The maximum number of accounts. Further spenders share one."""

_SHARED = ""


class _Debt(NamedTuple):
    amount: float
    at: float


class Budget:
    """An account for each spender: `capacity` at once, and `refill` more each second after that.

    What it counts (seconds, writes) is up to the caller. `now` is monotonic time in seconds.
    """

    def __init__(self, *, capacity: float, refill: float) -> None:
        self._capacity = capacity
        self._refill = refill
        self._debts: dict[str, _Debt] = {}
        self.has_spent = False
        """Whether an account may be spent; if not, nobody has to wait."""

    def __bool__(self) -> bool:
        """Return whether any account may owe something; if not, callers need not find out who spends."""
        return bool(self._debts)

    def is_spent(self, key: str, now: float) -> bool:
        """Return whether a spender has to wait."""
        return self._debt(key, now) >= self._capacity

    def charge(self, key: str, amount: float, now: float) -> None:
        """Charge a spender."""
        if key not in self._debts and len(self._debts) >= _KEYS:
            self.forget_paid(now)
            key = key if len(self._debts) < _KEYS else _SHARED
        owed = self._debt(key, now) + amount
        self._debts[key] = _Debt(owed, now)
        self.has_spent |= owed >= self._capacity

    def forget_paid(self, now: float) -> None:
        """Forget spenders who owe nothing."""
        self._debts = {key: debt for key, debt in self._debts.items() if self._debt(key, now) > 0}
        self.has_spent = any(self.is_spent(key, now) for key in self._debts)

    def _debt(self, key: str, now: float) -> float:
        debt = self._debts.get(key)
        if debt is None:
            if len(self._debts) < _KEYS:
                return 0.0
            debt = self._debts.get(_SHARED, _Debt(0.0, now))
        return max(0.0, debt.amount - (now - debt.at) * self._refill)
