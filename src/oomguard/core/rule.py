"""A rule of the policy: conditions on a process, and the value it gets."""

from typing import Literal, NamedTuple

from oomguard.core.text import legible

Kind = Literal["exact", "keep", "at_most", "at_least"]
Scope = Literal["all", "main"]
Children = Literal["reset", "inherit"]
Trust = Literal["verified", "name"]

OOM_SCORE_ADJ_MIN = -1000
OOM_SCORE_ADJ_MAX = 1000


class Value(NamedTuple):
    """The `oom_score_adj` that a rule sets."""

    kind: Kind
    number: int = 0

    def wanted(self, own: int) -> int | None:
        """Return the value for a process whose own is `own`; None leaves it alone."""
        match self.kind:
            case "exact":
                return self.number
            case "at_most":
                return min(own, self.number)
            case "at_least":
                return max(own, self.number)
            case "keep":
                return None

    def __str__(self) -> str:
        if self.kind == "keep":
            return "keep"
        return str(self.number) if self.kind == "exact" else f"{self.kind} {self.number}"


class Terms(NamedTuple):
    """All of a rule except its names. Rules that differ only in names share one.

    `users` are the names as written, for people; `uids` are their uids when the policy was read, without
    users that this host lacks; `subuids` are the first and last of each of their ranges of subordinate uids.
    In globs, `*` also matches `/`.
    """

    value: Value
    users: tuple[str, ...] = ()
    uids: tuple[int, ...] = ()
    units: tuple[str, ...] = ()
    user_units: tuple[str, ...] = ()
    cgroups: tuple[str, ...] = ()
    cmdlines: tuple[str, ...] = ()
    exes: tuple[str, ...] = ()
    scope: Scope = "all"
    children: Children = "reset"
    trust: Trust = "verified"
    containers: bool = False
    subuids: tuple[int, ...] = ()

    def is_of_users(self, uid: int) -> bool:
        """Return whether a uid is one of the users', or one of their subordinate uids."""
        ranges = self.subuids
        return uid in self.uids or any(
            first <= uid <= last for first, last in zip(ranges[::2], ranges[1::2], strict=True)
        )


_ANY_VALUE = Value("keep")


class Rule(NamedTuple):
    """An entry of `rules:`. `number` is its index in the whole policy, from 0.

    `names` are UTF-8, exact or glob; `file` and `line` are where it was written.
    """

    number: int
    names: tuple[bytes, ...]
    terms: Terms
    file: str
    line: int

    @property
    def source(self) -> str:
        """Where the rule was written, as `file:line`."""
        return f"{self.file}:{self.line}"

    @property
    def conditions(self) -> "tuple[tuple[bytes, ...], Terms]":
        """The conditions of the rule, to find the same rule in another policy."""
        return self.names, self.terms._replace(value=_ANY_VALUE)

    @property
    def label(self) -> str:
        """The rule in a few words, for logs and tables: `name=sshd`."""
        terms = self.terms
        conditions: dict[str, tuple[bytes, ...] | tuple[str, ...]] = {
            "name": self.names,
            "exe": terms.exes,
            "cmdline": terms.cmdlines,
            "user": terms.users,
            "unit": terms.units,
            "user_unit": terms.user_units,
            "cgroup": terms.cgroups,
        }
        return " ".join(f"{key}={_some(values)}" for key, values in conditions.items() if values)


def _some(values: tuple[bytes, ...] | tuple[str, ...]) -> str:
    shown = "|".join(legible(value) for value in values[:3])
    return shown if len(values) <= 3 else f"{shown}|…"
