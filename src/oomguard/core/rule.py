"""A rule of the policy: conditions on a process, and the value it gets."""

from collections.abc import Callable

from oomguard.core.cgroup import system_unit, user_unit
from oomguard.core.name_regex import is_regex, text_of
from oomguard.core.process import CMDLINE_LIMIT, Process, full_name
from oomguard.core.text import legible
from oomguard.core.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import Literal

    from oomguard.core.choices import Children, Scope, SysctlKind, Trust, ValueKind


OOM_SCORE_ADJ_MIN = -1000
OOM_SCORE_ADJ_MAX = 1000


def bounded(kind: "SysctlKind", value: int, own: int) -> int:
    """Return `value`, or `own` if that is within the bound."""
    return value if kind == "exact" else max(own, value) if kind == "at_least" else min(own, value)


class Value(NamedTuple):
    """The `oom_score_adj` that a rule sets."""

    kind: "ValueKind"
    number: int = 0

    def wanted(self, own: int) -> int:
        """Return the value for a process whose own is `own`."""
        return own if self.kind == "keep" else bounded(self.kind, self.number, own)

    @property
    def protects(self) -> bool:
        """Whether it makes the kernel spare a process."""
        return self.kind in ("exact", "at_most") and self.number < 0

    @property
    def raises(self) -> bool:
        """Whether it makes the kernel prefer a process."""
        return self.kind in ("exact", "at_least") and self.number > 0

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
    scope: "Scope" = "all"
    children: "Children" = "reset"
    trust: "Trust" = "verified"
    containers: bool = False
    subuids: tuple[int, ...] = ()

    def is_of_users(self, uid: int) -> bool:
        """Return whether a uid is one of the users', or one of their subordinate uids."""
        ranges = self.subuids
        return uid in self.uids or any(
            first <= uid <= last for first, last in zip(ranges[::2], ranges[1::2], strict=True)
        )


class Condition(NamedTuple):
    """Everything about a condition except how `core.match` tries it."""

    key: str
    """Its name in the policy, and in all output."""
    field: str
    """The field of `Terms`; for the name, of `Rule`."""
    cost: int
    """Lower ones are tried first: 0 is known, 1 reads `status`, 2 `cgroup`, 3 the link `exe`, and 4
    `cmdline`, a read that the process can delay."""
    left_by: 'Literal["itself", "move", "exec"]'
    """How a process stops meeting it: by its own doing at any time, by a move to another cgroup, or not
    before it runs another program or root changes it."""
    found: Callable[[Process], str | bytes]
    """Returns the text to show when a process fails this condition."""
    vouches: bool = False
    """Whether users cannot meet it at will, so that a rule with it may protect: `core.trust` says when."""
    can_change: bool = True
    """Whether a process can start or stop meeting it without a new name."""


CONDITIONS = (
    Condition("name", "names", 0, "itself", lambda one: full_name(one.comm, one.arguments), can_change=False),
    Condition(
        "exe", "exes", 3, "itself", lambda one: one.exe or "unreadable without CAP_SYS_PTRACE", vouches=True
    ),
    Condition("cmdline", "cmdlines", 4, "itself", lambda one: _beginning(b" ".join(one.arguments))),
    Condition("user", "users", 1, "exec", lambda one: f"uid {one.uid}", vouches=True),
    Condition("unit", "units", 2, "move", lambda one: _unit(system_unit, one), vouches=True),
    Condition("user_unit", "user_units", 2, "move", lambda one: _unit(user_unit, one)),
    Condition("cgroup", "cgroups", 2, "move", lambda one: one.cgroup, vouches=True),
)
"""In the order of the language. A rule has at least one of them."""


def _beginning(command_line: bytes) -> str:
    is_cut = len(command_line) >= CMDLINE_LIMIT - 1  # without its last NUL
    more = f"… (only its first {CMDLINE_LIMIT} bytes are read)" if is_cut else ""
    return command_line.decode("utf-8", "surrogateescape")[:200] + more


def _unit(of_path: Callable[[str], str], process: Process) -> str:
    return of_path(process.cgroup) or f"none ({process.cgroup})"


LEFT_BY = {row.key: row.left_by for row in CONDITIONS}
"""That of each condition, by key."""

VOUCHING = tuple(sorted((row for row in CONDITIONS if row.vouches), key=lambda row: row.cost))
"""The conditions that a protecting rule should have, the cheapest first."""

_ANY_VALUE = Value("keep")


class Rule(NamedTuple):
    """An entry of `rules:`. `number` is its index in the whole policy, from 0.

    `names` are UTF-8: exact, globs, or regular expressions (`core.name_regex`); `file` and `line` are where
    it was written.
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
    def conditions(self) -> tuple[tuple[bytes, ...], Terms]:
        """The conditions of the rule, to find the same rule in another policy."""
        return self.names, self.terms._replace(value=_ANY_VALUE)

    @property
    def label(self) -> str:
        """The rule in a few words, for logs and tables: `name=sshd`."""
        return " ".join([f"{row.key}={_some(found)}" for row in CONDITIONS if (found := self.patterns(row))])

    def patterns(self, condition: Condition) -> tuple[bytes, ...] | tuple[str, ...]:
        """Return the patterns of a condition; none if the rule lacks it."""
        if condition.field == "names":
            return self.names
        found: tuple[str, ...] = getattr(self.terms, condition.field)
        return found

    def has_only(self, *keys: str) -> bool:
        """Return whether it has no condition but these."""
        return not any(self.patterns(row) for row in CONDITIONS if row.key not in keys)

    @property
    def vouches(self) -> bool:
        """Whether it has a condition that users cannot meet at will."""
        return any(self.patterns(row) for row in VOUCHING)


def _some(values: tuple[bytes, ...] | tuple[str, ...]) -> str:
    shown = "|".join(_shown(value) for value in values[:3])
    return shown if len(values) <= 3 else f"{shown}|…"


def _shown(value: bytes | str) -> str:
    if isinstance(value, bytes) and is_regex(value):
        return f"/{legible(text_of(value))}/"
    return legible(value)
