"""The compiled policy as lines of JSON.

The short-lived process that reads YAML sends it to the daemon: one header, then a line for each 256 rules,
so that neither side needs the whole text in memory.
"""

import json
from collections.abc import Iterable, Iterator

from oomguard.core.policy import LeftOut, Policy, PressureLimit, SysctlSetting
from oomguard.core.rule import Terms, Value
from oomguard.core.rule_table import RuleTable
from oomguard.core.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

    from oomguard.core.choices import SysctlKind, ValueKind

_VALUE_KINDS: "tuple[ValueKind, ...]" = ("exact", "keep", "at_most", "at_least")
_SYSCTL_KINDS: "tuple[SysctlKind, ...]" = ("exact", "at_least", "at_most")
_CHOICES = {"scope": ("all", "main"), "children": ("reset", "inherit"), "trust": ("verified", "name")}
_ITEMS = {
    name: kind.__args__[0]
    for name, kind in Terms.__annotations__.items()
    if getattr(kind, "__origin__", None) is tuple
}
_DEFAULT_TERMS = Terms(Value("keep"))
_DEFAULT_POLICY = Policy()
_RULES_A_LINE = 256
"""One line per rule would take four times as long to read."""


def encode(policy: Policy) -> Iterator[str]:
    """Yield the policy as lines; `decode` reads them."""
    terms: dict[Terms, int] = {}
    files: dict[str, int] = {}
    for rule in policy.rules:
        terms.setdefault(rule.terms, len(terms))
        files.setdefault(rule.file, len(files))
    header = policy._replace(rules=())._asdict() | {"terms": list(terms), "rule_files": list(files)}
    yield json.dumps(header)
    count = 0
    for start in range(0, len(policy.rules), _RULES_A_LINE):
        rules = policy.rules[start : start + _RULES_A_LINE]
        names, rows = [], []
        for rule in rules:
            names += [name.decode("utf-8", "surrogateescape") for name in rule.names]
            count += len(rule.names)
            rows += [count, terms[rule.terms], files[rule.file], rule.line]
        yield json.dumps([names, rows])


def decode(lines: Iterable[str | bytes]) -> Policy:
    """Return the policy from the lines of `encode`. ValueError: they are malformed."""
    decoder = Decoder()
    for line in lines:
        decoder.feed(line)
    return decoder.policy()


class Decoder:
    """Decodes lines one by one. ValueError: one is malformed."""

    def __init__(self) -> None:
        self._header: dict[str, Any] = {}
        self._rules: RuleTable | None = None

    def feed(self, line: str | bytes) -> None:
        """Decode the next line."""
        try:
            row = json.loads(line)
            if self._rules is None:
                terms = [_decode_terms(terms) for terms in row.pop("terms")]
                files = row.pop("rule_files")
                _must_be(str, *files)
                rules = RuleTable(terms, files)
                row["sysctls"] = tuple([_decode_setting(setting) for setting in row["sysctls"]])
                row["files"] = tuple(row["files"])
                row["pressure"] = PressureLimit(*row["pressure"])
                _must_be(int, *row["pressure"])
                row["left_out"] = tuple([LeftOut(*one) for one in row["left_out"]])
                row["rules"] = tuple(row["rules"])
                _must_resemble(row, _DEFAULT_POLICY._asdict())
                _must_be(str, *row["files"], *(text for one in row["left_out"] for text in one))
                self._header, self._rules = row, rules
                return
            names, rows = row
            self._rules.extend([name.encode("utf-8", "surrogateescape") for name in names], rows)
        except (KeyError, IndexError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise ValueError(f"not a compiled policy: {error!r}") from error

    def policy(self) -> Policy:
        """Return the policy of the lines so far."""
        if self._rules is None:
            raise ValueError("not a compiled policy: it has no header")
        try:
            return Policy(**self._header | {"rules": self._rules})
        except TypeError as error:
            raise ValueError(f"not a compiled policy: {error}") from error


def _decode_setting(row: "list[Any]") -> SysctlSetting:
    setting = SysctlSetting(*row)
    _must_resemble(setting._asdict(), SysctlSetting("", 0, "", 0)._asdict())
    if setting.kind not in _SYSCTL_KINDS:
        raise TypeError(f"no kind of value: {setting.kind!r}")
    return setting


def _decode_terms(row: "list[Any]") -> Terms:
    (kind, number), *rest = row
    _must_be(int, number)
    if kind not in _VALUE_KINDS:
        raise TypeError(f"no kind of value: {kind!r}")
    made = Terms._make(
        (Value(kind, number), *(tuple(item) if isinstance(item, list) else item for item in rest))
    )
    fields = made._asdict()
    _must_resemble(fields, _DEFAULT_TERMS._asdict())
    for name, item in fields.items():
        if name in _CHOICES and item not in _CHOICES[name]:
            raise TypeError(f"no {name}: {item!r}")
        if name in _ITEMS:
            _must_be(_ITEMS[name], *item)
    if len(made.subuids) % 2:
        raise TypeError("half a range of uids")
    return made


def _must_resemble(found: "dict[str, Any]", model: "dict[str, Any]") -> None:
    """Raise TypeError if a field has another type than in `model`."""
    for name, item in found.items():
        _must_be(type(model[name]), item)


def _must_be(kind: type, *items: object) -> None:
    if any(type(item) is not kind for item in items):
        raise TypeError(f"not {kind.__name__}")
