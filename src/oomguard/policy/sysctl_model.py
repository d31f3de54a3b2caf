"""The sections `vm:` and `kernel:`: what each sysctl takes, made from the table of sysctls."""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, Union

from pydantic import Discriminator, Field, Tag, create_model
from pydantic.config import JsonDict
from pydantic.functional_validators import AfterValidator

from oomguard.core.overcommit import KBYTES, RATIO
from oomguard.core.sysctl import SYSCTLS, ULONG_MAX, UNIT_BYTES, Sysctl
from oomguard.core.text import any_of
from oomguard.policy import values
from oomguard.policy.fault import Problem
from oomguard.policy.language import Language, Takes, key, pattern
from oomguard.policy.patterns import refusal
from oomguard.policy.values import Amount

COMMIT_LIMIT = "vm.commit_limit"
"""A key that is not a sysctl: `overcommit_kbytes`, as a share of RAM or as what it leaves."""

_LIMITS = (RATIO, KBYTES, COMMIT_LIMIT)

BOUNDS = ("at_least", "at_most")


def keys_of(name: str) -> tuple[str, str]:
    """Return the section and the key of a sysctl; a setting is in no section."""
    section, dot, key = name.partition(".")
    return (section, key) if dot else ("", name)


def exclusives(name: str) -> tuple[str, ...]:
    """Return the keys, by full names, that exclude this one."""
    if name in _LIMITS:
        return tuple(one for one in _LIMITS if one != name)
    return (SYSCTLS[name].partner,) if name in SYSCTLS and SYSCTLS[name].partner else ()


def _word(form: str, parse: Callable[[str], Amount]) -> Any:
    return Annotated[str, pattern(form), AfterValidator(parse)]


_SIZE = _word(values.SIZE, values.size)
_PERCENT = _word(values.PERCENT, values.percent)
_SIZE_OR_PERCENT = _word(f"{values.SIZE}|{values.PERCENT}", values.size_or_percent)

_UNIT = f"add its unit: {any_of(values.UNITS)}"


def _any_of(**alternatives: Any) -> Any:
    """Return a union type: a `number`, a `word` that looks like one, or a `mapping`."""

    def tag(value: object) -> str:
        if isinstance(value, dict) and "mapping" in alternatives:
            return "<mapping>"
        is_word = "number" not in alternatives or values.looks_like_amount(value)
        return "<word>" if is_word and "word" in alternatives else "<number>"

    if len(alternatives) == 1:
        return next(iter(alternatives.values()))
    tagged: tuple[Any, ...] = tuple(Annotated[kind, Tag(f"<{name}>")] for name, kind in alternatives.items())
    return Annotated[Union[tagged], Discriminator(tag)]  # noqa: UP007  # a union of variables


def _mapping(name: str, word: Any, *, ram: bool, bounds: bool) -> type[Language]:
    """Make the model of a mapping: a share of RAM, a bound, or either. A bound may also be a `word`."""
    number = Takes("an integer" if word is None else "a number, or a size such as 64MiB", (int,))
    limit = int if word is None else _any_of(number=int, word=word)
    share = Takes("a percentage of RAM such as 3%", hint="add the sign, as in 3%")
    rows = {
        "ram": (_PERCENT, share, "Percent of RAM (MemTotal).", "3%"),
        "min": (_SIZE, Takes("a size such as 64MiB", hint=_UNIT), "The least that ram comes to.", "64MiB"),
        "max": (_SIZE, Takes("a size such as 2GiB", hint=_UNIT), "The most that ram comes to.", "2GiB"),
        "at_least": (limit, number, "Raises a lower value; leaves a higher one alone.", 1000),
        "at_most": (limit, number, "Lowers a higher value; leaves a lower one alone.", 1000),
    }
    fields: dict[str, Any] = {
        part: (Annotated[kind | None, takes], key(about, example))
        for part, (kind, takes, about, example) in rows.items()
        if (bounds if part in BOUNDS else ram)
    }
    extra: JsonDict = {"oneOf": [{"required": [part]} for part in ("ram", *BOUNDS) if part in fields]}
    if ram:
        extra["dependentRequired"] = {"min": ["ram"], "max": ["ram"]}
    made = create_model(name, __base__=Language, __doc__="A value that fits the host.", **fields)
    made.model_config["json_schema_extra"] = extra
    return made


_LIMIT = _mapping("Limit", None, ram=False, bounds=True)
_SIZE_LIMIT = _mapping("SizeLimit", _SIZE, ram=False, bounds=True)
_SHARE = _mapping("Share", None, ram=True, bounds=False)
_SHARE_OR_LIMIT = _mapping("ShareOrLimit", _SIZE_OR_PERCENT, ram=True, bounds=True)

_LEAVE: Any = (
    Annotated[_SIZE, Takes("a size such as 8GiB", hint=_UNIT)],
    key("RAM, without huge pages, that is not promised.", "8GiB", default=...),
)
_COMMIT_LIMIT = create_model(
    "CommitLimit", __base__=Language, __doc__="A commit limit by what it leaves.", leave=_LEAVE
)

Knob = int | Amount | Language
"""A valid value: a number, an amount or a mapping."""


def _range(row: Sysctl) -> str:
    if row.least_above_zero:
        return f"0 or an integer from {row.least_above_zero} to {row.high}"
    if row.high == ULONG_MAX:
        return f"an integer of {row.low} or more"
    return f"an integer from {row.low} to {row.high}"


def _mapping_of(row: Sysctl) -> type[Language] | None:
    if row.of_ram:
        return _SHARE_OR_LIMIT if row.has_order else _SHARE
    if not row.has_order:
        return None
    return _SIZE_LIMIT if row.unit else _LIMIT


def _words(row: Sysctl) -> str:
    """Return what a sysctl takes, beside a mapping."""
    if not row.unit:
        return _range(row)
    size = f"{_range(row)} ({row.unit}){',' if row.of_ram else ' or'} a size such as 64MiB"
    return f"{size} or a percentage of RAM such as 3%" if row.of_ram else size


def _checked(row: Sysctl, want: Takes) -> Callable[[Knob], Knob]:
    """Return the check of a whole value: its range, and which keys of a mapping can be combined."""

    def check(value: Knob) -> Knob:
        if isinstance(value, Language):
            given = {name: part for name, part in value if part is not None}
            _check_mapping(given, [name for name in ("ram", *BOUNDS) if name in type(value).model_fields])
            amounts = [given[name] for name in BOUNDS if name in given]
        else:
            amounts = [value]
        for amount in amounts:
            number, shown = amount, str(amount)
            if isinstance(amount, Amount):
                if amount.is_percent:  # comes to a number in the range
                    continue
                number = amount.of(0) // UNIT_BYTES.get(row.unit, 2**63)
                shown = f"{amount.text}, which is {number} {row.unit}"
            if not row.low <= number <= row.high or 0 < number < row.least_above_zero:
                raise refusal("out-of-range", f"must be {want.words}, got {shown}", want.hint)
        return value

    return check


def one_bound(kinds: Sequence[str], given: Iterable[str]) -> Problem:
    """Return the fault of a mapping that has none of these keys, or several."""
    return Problem(
        "one-bound",
        f"must have {'exactly one of ' if kinds[1:] else ''}{any_of(kinds)}, "
        f"got {' and '.join(given) or 'nothing'}",
        "at_least raises lower values, at_most lowers higher ones"
        + ("; min and max bound a share of RAM" if "ram" in kinds else ""),
    )


def _check_mapping(given: dict[str, Any], kinds: list[str]) -> None:
    """Check that a mapping is of one of these kinds, by their keys."""
    got = [kind for kind in kinds if kind in given]
    if len(got) != 1:
        raise refusal(*one_bound(kinds, got or given))
    if "min" in given and "max" in given and given["min"].of(0) > given["max"].of(0):
        message = f"min ({given['min'].text}) is more than max ({given['max'].text})"
        raise refusal("out-of-range", message, "exchange them")
    limits = [part for part in ("min", "max") if part in given]
    if limits and "ram" not in given:
        bound, names = given[got[0]], " and ".join(limits)
        hint = f"remove {names}"
        if isinstance(bound, Amount) and bound.is_percent:
            share = ", ".join([f"ram: {bound.text}", *(f"{part}: {given[part].text}" for part in limits)])
            hint += f"; or write {{{share}}}, which both raises and lowers"
        raise refusal("one-bound", f"must have ram beside {names}, got {got[0]}", hint)


def _knob(row: Sysctl) -> tuple[Any, Any]:
    """Return the type and the field of a sysctl."""
    want = Takes(_words(row), (int,), hint=f"{row.name.partition('.')[2]}: {row.summary}")
    gap: JsonDict = (
        {"not": {"minimum": 1, "maximum": row.least_above_zero - 1}} if row.least_above_zero else {}
    )
    alternatives: dict[str, Any] = {
        "number": Annotated[int, Field(ge=row.low, le=row.high, json_schema_extra=gap)]
    }
    if row.unit:
        alternatives["word"] = _SIZE_OR_PERCENT if row.of_ram else _KBYTES if row.name == KBYTES else _SIZE
    mapping = _mapping_of(row)
    if mapping is not None:
        alternatives["mapping"] = mapping
    since = f" Since Linux {row.since}." if row.since else ""
    kind: Any = Annotated[_any_of(**alternatives) | None, want, AfterValidator(_checked(row, want))]
    number: JsonDict = {"minimum": row.low, "maximum": row.high}
    limits: JsonDict = {"properties": dict.fromkeys(BOUNDS, number)} if row.has_order else {}
    return kind, key(f"{row.summary}.{since}", row.low, json_schema_extra=limits)


def _kbytes(text: str) -> Amount:
    if text.endswith("%"):
        hint = f"write commit_limit: {text}, of RAM without huge pages"
        raise refusal("size", f"must be a size such as 48GiB, got {text}", hint)
    return values.size(text)


_KBYTES = _word(values.SIZE, _kbytes)

_COMMIT_LIMIT_KEY = (
    Annotated[
        _any_of(word=_SIZE_OR_PERCENT, mapping=_COMMIT_LIMIT) | None,
        Takes(
            "a size such as 48GiB, a percentage of RAM such as 90% or {leave: 8GiB}",
            hint="write it with its unit; overcommit_kbytes takes a number",
        ),
    ],
    key(
        "What may be promised in mode 2 in addition to swap, of RAM without huge pages; written as "
        "overcommit_kbytes.",
        "90%",
        {"leave": "8GiB"},
    ),
)


def _section(prefix: str, **more: Any) -> Any:
    """Make the model of `vm:` or `kernel:`."""
    knobs: dict[str, Any] = {
        name.removeprefix(prefix): _knob(SYSCTLS[name]) for name in SYSCTLS if name.startswith(prefix)
    }
    about = f"{prefix}* sysctls by their kernel names."
    return create_model(prefix.rstrip(".").title(), __base__=Language, __doc__=about, **(knobs | more))


if TYPE_CHECKING:
    Vm: TypeAlias = Language
    Kernel: TypeAlias = Language
else:
    Vm, Kernel = _section("vm.", commit_limit=_COMMIT_LIMIT_KEY), _section("kernel.")
