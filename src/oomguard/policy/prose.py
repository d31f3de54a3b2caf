"""What pydantic found wrong, at the line where it is wrong, in words that name the way out."""

import difflib
import functools
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from oomguard.core.sysctl import SYSCTLS, TRIGGERS
from oomguard.policy.fault import Fault, excerpt
from oomguard.policy.model import MODELS, Bound, Wanted, wanted
from oomguard.policy.nodes import Mapping, Node, Scalar, Sequence
from oomguard.policy.scalar import Surprise, scalar

if TYPE_CHECKING:
    from pydantic import ValidationError

_RANGES = ("greater_than_equal", "less_than_equal")

_ELSEWHERE = {
    "comm": "name",
    "process": "name",
    "program": "name",
    "command": "cmdline",
    "args": "cmdline",
    "path": "exe",
    "uid": "user",
    "service": "unit",
    "slice": "cgroup",
    "score": "oom_score_adj",
    "value": "oom_score_adj",
    "adj": "oom_score_adj",
    "oom_adj": "oom_score_adj",
    "oom_score": "oom_score_adj",
    "OOMScoreAdjust": "oom_score_adj",
    "max": "at_most",
    "min": "at_least",
    "sysctl": "vm",
    "processes": "rules",
    "interval": "resync_interval",
    "headroom": "commit_headroom",
}
"""Words that others use for our keys, beyond what a spelling check finds."""


class Place(NamedTuple):
    """Where in a file something is: the node, its position, and its path in words and in keys."""

    node: Node
    line: int
    column: int
    path: str
    keys: tuple[str, ...]
    is_item: bool = False


def place(root: Node, loc: tuple[int | str, ...]) -> Place:
    """Follow pydantic's location down the tree, past the names that it gives to alternatives."""
    here = Place(root, root.line, root.column, "", ())
    for part in loc:
        node = here.node
        if isinstance(node, Sequence) and isinstance(part, int):
            item = node.items[part]
            here = Place(item, item.line, item.column, f"{here.path}[{part}]", here.keys, is_item=True)
        elif isinstance(node, Mapping) and isinstance(part, str):
            entry = node.entries.get(part)
            if entry is not None:
                path = f"{here.path}.{excerpt(part)}" if here.path else excerpt(part)
                value = entry.value
                here = Place(value, value.line, value.column, path, (*here.keys, part))
    return here


def faults(file: str, root: Node, error: "ValidationError") -> list[Fault]:
    """Return what `error` holds as faults."""
    found = [_fault(file, root, one) for one in error.errors(include_url=False)]
    misspelt = {(one.path.rpartition(".")[0], one.hint) for one in found if one.code == "unknown-key"}
    return [
        one
        for one in found
        if one.code != "missing-key" or (one.path, _did_you_mean(one.message.split()[0])) not in misspelt
    ]


def _did_you_mean(word: str) -> str:
    return f"did you mean {word}?"


def not_a_mapping(file: str, root: Node) -> Fault:
    """Return the fault of a file that holds something else than keys and values."""
    found, _, _ = _found(root, wanted(()))
    hint = (
        "put 'rules:' above the list"
        if isinstance(root, Sequence)
        else "write key: value, with a space after ':'"
    )
    return Fault(
        file, root.line, root.column, "", f"must be {wanted(()).words}, got {found}", hint, code="wrong-type"
    )


def _fault(file: str, root: Node, error: Any) -> Fault:
    kind, loc = error["type"], error["loc"]
    if kind == "extra_forbidden":
        return _unknown_key(file, root, loc)
    here = place(root, loc)
    want = wanted(here.keys)
    message, hint, code = _words(kind, here, want, error)
    return Fault(file, here.line, here.column, here.path, message, hint, code=code)


def _words(kind: str, here: Place, want: Wanted, error: Any) -> tuple[str, str, str]:
    context = error.get("ctx", {})
    if kind == "missing":
        key = error["loc"][-1]
        return (
            f"{key} is missing",
            f"say which value the process shall have: {key}: -500, for example",
            "missing-key",
        )
    if kind == "too_short":
        return "must not be an empty list", "remove the key, or name something", "empty"
    if kind == "string_too_short":
        return "must not be empty", f"write {want.each or want.words}", "empty"
    if kind == "string_too_long":
        limit, length = context["max_length"], len(error["input"])
        return (
            f"must have at most {limit} characters, has {length}",
            "use a glob or a shorter pattern",
            "too-long",
        )
    if "message" in context and "hint" in context:
        return context["message"], context["hint"], kind
    return _mismatch(error, here, want)


def _mismatch(error: Any, here: Place, want: Wanted) -> tuple[str, str, str]:
    """Say what the key takes and what it was given instead."""
    kind = error["type"]
    words = want.each if here.is_item else want.words
    found, hint, code = _found(here.node, want)
    if kind in _RANGES:
        code = "out-of-range"
    if kind == "literal_error" and isinstance(here.node, Scalar) and not hint:
        code, hint = "not-allowed", _nearest_word(here.node.text, error["ctx"]["expected"])
    return f"must be {words}, got {found}", hint or want.hint, code


def _nearest_word(text: str, expected: str) -> str:
    bound, _, number = text.partition(" ")
    if bound.rstrip(":") in Bound.model_fields:
        return f"write {{{bound.rstrip(':')}: {excerpt(number.strip()) or -900}}}"
    near = nearest(text, re.findall("'([^']+)'", expected))  # pydantic says: 'all' or 'main'
    return _did_you_mean(near) if near else ""


def _found(node: Node, want: Wanted) -> tuple[str, str, str]:
    """Describe what was given: in words, with a hint and a code."""
    if isinstance(node, Mapping):
        return (
            "a mapping",
            "text that holds ': ' or begins with { must be quoted" if str in want.kinds else "",
            "wrong-type",
        )
    if isinstance(node, Sequence):
        hint = (
            "'- ' starts a list; write the minus and the number together: -900"
            if want.kinds == (int,)
            else ""
        )
        return "a list", hint, "wrong-type"
    value, shown = scalar(node), excerpt(node.text)
    if isinstance(value, Surprise):
        return _found_surprise(value, want)
    if isinstance(value, bool):
        return shown, f"quote it if it is text: '{shown}'" if str in want.kinds else "", "wrong-type"
    if isinstance(value, int):
        return (
            shown,
            f"quote it: '{shown}'" if str in want.kinds and int not in want.kinds else "",
            "wrong-type",
        )
    if not want.kinds and ":" in node.text:
        return f"'{shown}'", "write key: value, with a space after the ':'", "wrong-type"
    meant = scalar(node._replace(plain=True))
    if not node.plain and type(meant) in want.kinds:
        return f"'{shown}'", f"quoted, so it is text; write {shown} without quotes", "quoted-value"
    return f"'{shown}'", "", "wrong-type"


def _found_surprise(value: Surprise, want: Wanted) -> tuple[str, str, str]:
    shown = excerpt(value.text)
    if value.is_nothing and not (shown.isalpha() and str in want.kinds):
        return shown or "nothing", "give it a value, or remove the key", "empty"
    if int in want.kinds and not value.instead and str not in want.kinds:
        return f"{shown}, {value.meaning}", "write a whole number in decimal digits", "yaml-surprise"
    hints = []
    if value.instead and type(scalar(Scalar(value.instead, plain=True, line=0, column=0))) in want.kinds:
        hints.append(f"write {value.instead}")
    if str in want.kinds:
        hints.append(f"quote it if it is a name: '{shown}'")
    return f"{shown}, {value.meaning}", ", or ".join(hints), "yaml-surprise"


def _unknown_key(file: str, root: Node, loc: tuple[int | str, ...]) -> Fault:
    parent = place(root, loc[:-1])
    key = str(loc[-1])
    path = f"{parent.path}.{excerpt(key)}" if parent.path else excerpt(key)
    assert isinstance(parent.node, Mapping)
    entry = parent.node.entries[key]
    message, hint, code = _unknown_key_words(key, parent.keys)
    return Fault(file, entry.line, entry.column, path, message, hint, code=code)


@functools.lru_cache(maxsize=1024)
def _unknown_key_words(key: str, parents: tuple[str, ...]) -> tuple[str, str, str]:
    allowed = list(MODELS[parents].model_fields)
    section = parents[0] if parents else ""
    sysctl = key if "." in key else f"{section}.{key}"
    shown = excerpt(key)
    if not key:
        return "a key is missing before the ':'", f"allowed here: {', '.join(allowed)}", "unknown-key"
    if sysctl in TRIGGERS:
        return f"{shown} is no setting: {TRIGGERS[sysctl]}", "remove it; a policy holds what lasts", "trigger"
    if key.replace(".", "/", 1) in {name.replace(".", "/", 1) for name in SYSCTLS} or sysctl in SYSCTLS:
        place_, _, knob = sysctl.partition(".")
        return f"unknown key {shown}", f"write {knob} below {place_}:", "unknown-key"
    if section in {"vm", "kernel"}:
        return _unknown_sysctl(shown, key, section, allowed)
    word, colon, value = key.partition(":")
    if colon and word in allowed:
        return (
            f"unknown key {shown}",
            f"write {word}: {excerpt(value)}, with a space after the ':'",
            "unknown-key",
        )
    near = _ELSEWHERE.get(key)
    near = near if near in allowed else nearest(key, allowed)
    if near:
        hint = _did_you_mean(near)
    elif not parents and any(key in model.model_fields for model in MODELS.values()):
        hint = next(
            f"it belongs below {'.'.join(keys)}:"
            for keys, model in MODELS.items()
            if key in model.model_fields
        )
    else:
        hint = f"allowed here: {', '.join(allowed)}"
    return f"unknown key {shown}", hint, "unknown-key"


def _unknown_sysctl(shown: str, key: str, section: str, allowed: list[str]) -> tuple[str, str, str]:
    message = f"{shown} is not a {section}.* sysctl that oomguard sets"
    near = nearest(key, allowed)
    other = "kernel" if section == "vm" else "vm"
    if not near and f"{other}.{key}" in SYSCTLS:
        return message, f"write it below {other}:", "unknown-sysctl"
    if near:
        return message, _did_you_mean(near), "unknown-sysctl"
    return message, "leave it to sysctl.d, or see oomguard schema for those it sets", "unknown-sysctl"


def nearest(word: str, words: list[str]) -> str:
    """Return the one of `words` that was probably meant, "" if none is near."""
    found = difflib.get_close_matches(word[:80], words, n=1)
    return found[0] if found else ""
