"""The compiled policy: desired sysctls and an ordered list of rules.

It crosses from the short-lived process that reads YAML to the daemon as lines of JSON, one
header and one line a rule, so that neither side ever holds the whole text.
"""

import json
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

from oomguard.core.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Kind = Literal["exact", "keep", "at_most", "at_least"]
Scope = Literal["all", "main"]
Children = Literal["reset", "inherit"]
Trust = Literal["verified", "name"]

OOM_SCORE_ADJ_MIN = -1000
OOM_SCORE_ADJ_MAX = 1000


class Value(NamedTuple):
    """The `oom_score_adj` a rule asks for."""

    kind: Kind
    number: int = 0

    def wanted(self, own: int) -> int | None:
        """Return what a process whose own value is `own` shall have; None leaves it alone."""
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
    """Everything of a rule but its names. Rules that differ only in name share one.

    `users` are the names as written, for people; `uids` are what they resolved to when the
    policy was read (a user this host does not have resolves to nothing). Globs cross `/`.
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


class Rule(NamedTuple):
    """One entry of `rules:`. `number` is its place in the whole policy, from 0.

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
    def label(self) -> str:
        """The rule in a few words, for logs and tables: `name=sshd`."""
        terms = self.terms
        conditions = {
            "name": tuple(printable(name) for name in self.names),
            "exe": terms.exes,
            "cmdline": terms.cmdlines,
            "user": terms.users,
            "unit": terms.units,
            "user_unit": terms.user_units,
            "cgroup": terms.cgroups,
        }
        return " ".join(f"{key}={_some(values)}" for key, values in conditions.items() if values)


def _some(values: tuple[str, ...]) -> str:
    shown = "|".join(values[:3])
    return shown if len(values) <= 3 else f"{shown}|…"


class SysctlSetting(NamedTuple):
    """A sysctl by its full name (`vm.swappiness`), the value it shall have, and who says so."""

    name: str
    value: int
    file: str
    line: int

    @property
    def source(self) -> str:
        """Where the setting was written, as `file:line`."""
        return f"{self.file}:{self.line}"


class Policy(NamedTuple):
    """What the policy files declare, validated and compiled."""

    sysctls: tuple[SysctlSetting, ...] = ()
    rules: tuple[Rule, ...] = ()
    commit_headroom_percent: int = 10
    force: bool = False
    resync_interval_seconds: int = 60
    files: tuple[str, ...] = ()
    digest: str = ""
    """SHA-256 over the policy files, in hexadecimal."""


def encode(policy: Policy) -> "Iterator[str]":
    """Yield the policy as lines of JSON; `decode` reads them."""
    terms: dict[Terms, int] = {}
    for rule in policy.rules:
        terms.setdefault(rule.terms, len(terms))
    files: dict[str, int] = {}
    for rule in policy.rules:
        files.setdefault(rule.file, len(files))
    header = policy._replace(rules=())._asdict() | {"terms": list(terms), "rule_files": list(files)}
    yield json.dumps(header, ensure_ascii=True)
    for rule in policy.rules:
        names = [name.decode("utf-8", "surrogateescape") for name in rule.names]
        yield json.dumps([names, terms[rule.terms], files[rule.file], rule.line])


def decode(lines: "Iterable[str | bytes]") -> Policy:
    """Rebuild the policy from what `encode` yielded. Malformed input raises ValueError."""
    reader = iter(lines)
    try:
        header = cast("dict[str, Any]", json.loads(next(reader, "")))
        terms = [_decode_terms(row) for row in header.pop("terms")]
        files: list[str] = header.pop("rule_files")
        rules = []
        for number, line in enumerate(reader):
            names, term, file, line_number = json.loads(line)
            encoded = tuple([name.encode("utf-8", "surrogateescape") for name in names])
            rules.append(Rule(number, encoded, terms[term], files[file], line_number))
        header["sysctls"] = tuple(SysctlSetting(*row) for row in header["sysctls"])
        header["files"] = tuple(header["files"])
        return Policy(**header | {"rules": tuple(rules)})
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise ValueError(f"not a compiled policy: {error!r}") from error


def _decode_terms(row: list[Any]) -> Terms:
    value, *rest = row
    return Terms._make((Value(*value), *(tuple(item) if isinstance(item, list) else item for item in rest)))
