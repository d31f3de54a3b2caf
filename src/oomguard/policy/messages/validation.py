"""The errors that pydantic finds, as faults with their line and a fix."""

import re
import sys
from itertools import islice
from typing import Any

from pydantic import ValidationError

from oomguard.policy.fault import FAULTS_LIMIT, Fault, Problem, excerpt
from oomguard.policy.language import Language, Takes, models, wanted
from oomguard.policy.messages.unknown_key import meant, nearest, unknown_key
from oomguard.policy.model import Document
from oomguard.policy.nodes import Location, Mapping, Node, Scalar, Sequence, locate
from oomguard.policy.scalars import Surprise, scalar
from oomguard.policy.sysctl_model import BOUNDS
from oomguard.policy.typography import described, in_ascii
from oomguard.policy.values import looks_like_amount, with_digits


def faults(
    file: str,
    root: Node,
    error: ValidationError,
    above: tuple[int | str, ...] = (),
    language: type[Language] = Document,
) -> list[Fault]:
    """Return the errors in `error` as faults.

    `above` are the keys of what was validated, and `language` is the model of the root.
    """
    found = []
    for number, one in enumerate(error.errors(include_url=False)):
        if number >= FAULTS_LIMIT:  # only counted: to find what each key means takes 0.1 ms
            found.append(Fault(file, sys.maxsize, 0, "", ""))
            continue
        loc = above + one["loc"]
        parent, key = locate(root, loc[:-1]), str(loc[-1])
        if one["type"] == "extra_forbidden":
            found.append(_unknown_key(file, parent, key, language))
        elif one["type"] != "missing":
            here = locate(root, loc)
            problem = _problem(one, here, wanted(language, here.keys))
            if braces := _in_braces(here, language):
                problem = problem._replace(hint=f"write {braces}")
            found.append(problem.at(file, here.line, here.column, here.path))
        elif not _is_misspelt(key, parent, language):
            example, *_ = models(language)[parent.keys].model_fields[key].examples or [None]
            hint = f"add it, as in {key}: {example}" if isinstance(example, int | str) else "add it"
            problem = Problem("missing-key", f"{key} is missing", hint)
            found.append(problem.at(file, parent.line, parent.column, parent.path))
    return found


def _is_misspelt(key: str, parent: Location, language: type[Language]) -> bool:
    """Return whether a missing key is there under another name."""
    assert isinstance(parent.node, Mapping)
    some = islice(parent.node.entries, FAULTS_LIMIT)
    return any(meant(one, language, parent.keys) == key for one in some)


def not_a_mapping(file: str, root: Node, language: type[Language]) -> Fault:
    """Return the fault of a file that is not a mapping."""
    want = wanted(language, ())
    section = "rules" if language is Document else "cases"
    hint = f"write {section}: above the list" if isinstance(root, Sequence) else _COLON
    problem = Problem("wrong-type", f"must be {want.words}, got {_given(root, want).message}", hint)
    return problem.at(file, root.line, root.column, "")


def _unknown_key(file: str, parent: Location, key: str, language: type[Language]) -> Fault:
    assert isinstance(parent.node, Mapping)
    entry = parent.node.entries[key]
    path = f"{parent.path}.{excerpt(key)}" if parent.path else excerpt(key)
    value = entry.value.text if isinstance(entry.value, Scalar) else ""
    return unknown_key(key, value, language, parent.keys).at(file, entry.line, entry.column, path)


def _problem(error: Any, here: Location, want: Takes) -> Problem:
    """Return what the key takes and what it got instead."""
    kind, context = error["type"], error.get("ctx", {})
    if "message" in context and "hint" in context:  # from `patterns.refusal`
        return Problem(kind, context["message"], context["hint"])
    match kind:
        case "too_short":
            hint = "add an item" if want.is_required else "remove the key, or add an item"
            return Problem("empty", "must not be an empty list", hint)
        case "string_too_short":
            return Problem("empty", "must not be empty", f"write {want.each or want.words}")
        case "string_too_long":
            message = f"must have at most {context['max_length']} characters, got {len(error['input'])}"
            return Problem("too-long", message, "use a glob or a shorter pattern")
    code, found, hint = _given(here.node, want)
    if code == "empty" and here.is_item:
        hint = "add a value, or remove the item"
    if kind in {"greater_than_equal", "less_than_equal"}:
        code = "out-of-range"
    if kind == "literal_error" and isinstance(here.node, Scalar) and not hint:
        code, hint = "not-allowed", _meant_word(here.node.text, context["expected"])
    words = want.each if here.is_item else want.words
    return Problem(code, f"must be {words}, got {found}", hint or want.hint)


def _in_braces(here: Location, language: type[Language]) -> str:
    """Return `at_most -900` or `leave 8GiB` as the mapping that is meant, "" if it is none."""
    said = _LIMIT.fullmatch(here.node.text) if isinstance(here.node, Scalar) else None
    want, model = wanted(language, here.keys), models(language).get(here.keys)
    if said is None or model is None or said[1] not in model.model_fields or want.each:
        return ""
    if not said[2] and int not in want.kinds:
        return ""
    return f"{{{said[1]}: {said[2] or 'N'}}}"


def _meant_word(text: str, expected: str) -> str:
    if text[:1].isdecimal():  # a number is not misspelt
        return ""
    near = nearest(text, re.findall("'([^']+)'", expected))  # pydantic says: 'all' or 'main'
    return f"did you mean {near}?" if near else ""


_MILLISECONDS = {"ms": 1, "s": 1000, "sec": 1000, "m": 60_000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}
_LIMIT = re.compile(r"(\w+):?(?: +(-?[0-9][0-9.]* ?%?[A-Za-z]*))? *")
_COLON = "write key: value, with a space after the ':'"


def _given(node: Node, want: Takes) -> Problem:
    """Return what was given where another kind is required, and how to fix it."""
    if isinstance(node, Mapping):
        hint = "quote text that contains ': ' or starts with {" if str in want.kinds else ""
        if "regex" in node.entries:
            hint = "only name takes {regex: ...}; write " + (want.each or want.words)
        if want.kinds == (int,) and not node.entries.keys().isdisjoint(BOUNDS):
            hint = f"write a value, not a limit; {want.hint}".removesuffix("; ")
        return Problem("wrong-type", "a mapping", hint)
    if isinstance(node, Sequence):
        minus = "'- ' starts a list; write a negative number without a space: -900"
        return Problem("wrong-type", "a list", minus if want.kinds == (int,) else "")
    value, shown = scalar(node), excerpt(node.text)
    if isinstance(value, Surprise):
        return _given_surprise(value, want)
    if not isinstance(value, str):
        hint = f"quote it if it is text: '{shown}'" if str in want.kinds and int not in want.kinds else ""
        if hint and "size" in want.words:
            hint = f"write {shown}GiB" if type(value) is int and value >= 0 else "write 0 or more, and a unit"
        return Problem("wrong-type", shown, hint)
    takes_off = value == "off" and want.words.startswith("off")
    if not node.plain and (takes_off or type(scalar(node._replace(plain=True))) in want.kinds):
        return Problem("quoted-value", f"'{shown}'", f"remove the quotes: {shown}")
    if int in want.kinds and (number := with_digits(value)):
        return Problem("wrong-type", shown, f"write {number}, with digits: O and l are letters")
    if int in want.kinds and (number := in_ascii(value)):
        odd = next((one for one in value if not one.isascii()), value[-1])
        return Problem("wrong-type", f"'{shown}'", f"write {number}, without {described(odd)}")
    if int in want.kinds and looks_like_amount(value):
        number = _without_unit(shown, want)
        return Problem("wrong-type", shown, f"write {number} without a unit; {want.hint}".removesuffix("; "))
    return Problem("wrong-type", f"'{shown}'", _COLON if not want.kinds and ":" in value else "")


def _without_unit(text: str, want: Takes) -> str:
    """Return the number that a key takes in place of one with a unit; "a number" if that is not certain."""
    found = re.fullmatch("([-+]?[0-9]+) ?([a-z]+|%)", text)
    if found is None or "1/" in want.hint:  # in other fractions than percent or seconds
        return "a number"
    scale = {"%": 1000} if "seconds" not in want.words + want.hint else _MILLISECONDS
    if found[2] not in scale:
        return "a number"
    number, rest = divmod(int(found[1]) * scale[found[2]], 1000)
    limits = re.search("from (-?[0-9]+) to ([0-9]+)", want.words)
    is_allowed = limits is None or int(limits[1]) <= number <= int(limits[2])
    return str(number) if is_allowed and not rest else "a number"


def _given_surprise(value: Surprise, want: Takes) -> Problem:
    shown, hints = excerpt(value.text), []
    if value.is_nothing and not (shown.isalpha() and str in want.kinds):
        hint = "add a value" if want.is_required else "add a value, or remove the key"
        return Problem("empty", shown or "nothing", hint)
    if value.instead and type(scalar(Scalar(value.instead, plain=True, line=0, column=0))) in want.kinds:
        hints.append(f"write {value.instead}{_decimal(value)}")
    elif not value.instead and want.kinds == (int,):
        unit = ", or a number with its unit" if "size" in want.words else ""
        hints.append(f"write a whole number in decimal{unit}")
    if str in want.kinds and not (int in want.kinds and shown.isdecimal()):
        hints.append(f"quote it if it is a name: '{shown}'")
    return Problem("yaml-surprise", f"{shown}, {value.meaning}", ", or ".join(hints))


def _decimal(value: Surprise) -> str:
    """Return what else a number with a leading zero may mean, as an addition to the hint."""
    digits = value.text.replace("_", "")
    if not digits.lstrip("+-").isdecimal():
        return ""
    decimal = str(int(digits))
    return "" if decimal == value.instead else f", or {decimal} if it is not octal"
