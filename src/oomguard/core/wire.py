"""The compiled policy as lines of JSON.

So it crosses from the short-lived process that reads YAML to the daemon: one header, then one line
a rule, so that neither side ever holds the whole text.
"""

import json
from typing import TYPE_CHECKING, Any

from oomguard.core.policy import Policy, SysctlSetting, Terms, Value
from oomguard.core.ruletable import RuleTable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def encode(policy: Policy) -> "Iterator[str]":
    """Yield the policy as lines; `decode` reads them."""
    terms: dict[Terms, int] = {}
    files: dict[str, int] = {}
    for rule in policy.rules:
        terms.setdefault(rule.terms, len(terms))
        files.setdefault(rule.file, len(files))
    header = policy._replace(rules=())._asdict() | {"terms": list(terms), "rule_files": list(files)}
    yield json.dumps(header)
    for rule in policy.rules:
        names = [name.decode("utf-8", "surrogateescape") for name in rule.names]
        yield json.dumps([names, terms[rule.terms], files[rule.file], rule.line])


def decode(lines: "Iterable[str | bytes]") -> Policy:
    """Rebuild the policy from what `encode` yielded. Malformed input raises ValueError."""
    decoder = Decoder()
    for line in lines:
        decoder.feed(line)
    return decoder.policy()


class Decoder:
    """Takes the lines one by one. Malformed input raises ValueError."""

    def __init__(self) -> None:
        self._header: dict[str, Any] = {}
        self._rules: RuleTable | None = None

    def feed(self, line: str | bytes) -> None:
        """Take the next line."""
        try:
            row = json.loads(line)
            if self._rules is None:
                terms = [_decode_terms(terms) for terms in row.pop("terms")]
                self._rules = RuleTable(terms, row.pop("rule_files"))
                row["sysctls"] = tuple(SysctlSetting(*setting) for setting in row["sysctls"])
                row["files"] = tuple(row["files"])
                self._header = row
                return
            names, term, file, number = row
            self._rules.append(
                tuple([n.encode("utf-8", "surrogateescape") for n in names]), term, file, number
            )
        except (KeyError, IndexError, TypeError, AttributeError, OverflowError) as error:
            raise ValueError(f"not a compiled policy: {error!r}") from error

    def policy(self) -> Policy:
        """Return the policy that the lines so far make."""
        if self._rules is None:
            raise ValueError("not a compiled policy: it has no header")
        try:
            return Policy(**self._header | {"rules": self._rules})
        except TypeError as error:
            raise ValueError(f"not a compiled policy: {error}") from error


def _decode_terms(row: list[Any]) -> Terms:
    value, *rest = row
    return Terms._make((Value(*value), *(tuple(item) if isinstance(item, list) else item for item in rest)))
