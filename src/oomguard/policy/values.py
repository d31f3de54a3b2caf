"""Sizes and percentages as a policy writes them: `64MiB` and `3%`. `resolve` makes numbers of them."""

import re
from functools import partial
from typing import NamedTuple

from oomguard.core.text import any_of
from oomguard.policy.fault import excerpt
from oomguard.policy.patterns import refusal

UNITS = {"KiB": 1, "MiB": 1024, "GiB": 1024**2, "TiB": 1024**3}
"""In KiB."""

SIZE = r"(?:0|[1-9][0-9]{0,11})(?:\.[0-9]{1,3})? ?[KMGT]iB"
PERCENT = r"(?:100(?:\.0{1,3})?|[1-9]?[0-9](?:\.[0-9]{1,3})?) ?%"

_BINARY = {spelling: unit for unit in UNITS for spelling in (unit[0], unit[:2].upper())}

_LOOSE = re.compile(r"([-+]?)([0-9_,.]+) ?([A-Za-z]+|%|)\Z")

_LETTERS = str.maketrans("OoIl", "0011")


class Amount(NamedTuple):
    """A size in thousandths of a KiB, or thousandths of a percent of RAM; `text` is how it is shown."""

    thousandths: int
    is_percent: bool
    text: str

    @property
    def size_bytes(self) -> int:
        """The size in bytes, rounded down."""
        return self.thousandths * 1024 // 1000

    def of(self, total_kib: int) -> int:
        """Return the amount in bytes, a percentage as that of `total_kib`."""
        return total_kib * 1024 * self.thousandths // 100_000 if self.is_percent else self.size_bytes


def looks_like_amount(value: object) -> bool:
    """Return whether this is a number with a unit, though perhaps none of ours."""
    found = _LOOSE.match(value) if isinstance(value, str) else None
    return found is not None and found[3] != ""


def with_digits(text: str) -> str:
    """Return a number whose digits are partly the letters that look like them; "" for any other text."""
    number = text.translate(_LETTERS)
    is_meant = number != text and re.fullmatch("[-+]?[1-9][0-9]*", number) and re.search("[0-9]", text)
    return number if is_meant else ""


def _parsed(text: str, form: str, words: str) -> Amount:
    if re.fullmatch(form, text) is None:
        raise refusal("size", f"must be {words}, got {excerpt(text)}", _instead(text, form))
    found = re.fullmatch(r"([0-9]+)\.?([0-9]*) ?(.+)", text)
    assert found is not None
    whole, fraction, unit = found.groups()
    thousandths = int(whole + fraction.ljust(3, "0")) * UNITS.get(unit, 1)
    return Amount(thousandths, unit == "%", text.replace(unit, "").strip() + f" {unit}")


size = partial(_parsed, form=SIZE, words="a size such as 512MiB")
percent = partial(_parsed, form=PERCENT, words="a percentage from 0% to 100%, such as 0.5%")
size_or_percent = partial(
    _parsed, form=f"{SIZE}|{PERCENT}", words="a size such as 512MiB, or a percentage from 0% to 100%"
)


def _instead(text: str, form: str) -> str:
    """Return the hint that says how to write a number with some other unit."""
    found = _LOOSE.match(text)
    if found is not None:
        sign, number, unit = found.groups()
        number = re.sub(r"\A0*(?=[0-9])|_", "", f"0{number}")
        unit = "%" if unit in ("%", "percent") else _BINARY.get(unit.upper().removesuffix("B"), "")
        if not sign and unit and re.fullmatch(form, number + unit):
            return f"write {number}{unit}" + ("" if unit == "%" else ": units are in steps of 1024")
        if not found[3] and re.fullmatch(form, f"{number}GiB"):
            return f"add the unit, as in {number}GiB"
        is_percent = unit == "%" and "%" in form and not sign
        if is_percent and re.fullmatch(r"[0-9]+(\.[0-9]+)?", number) and float(number) > 100:
            return "write 100% or less"
    units = [unit for unit in (*UNITS, "%") if unit[-1] in form]
    return f"write digits, at most one point, and {any_of(units)}"
