"""What is wrong with a key that the language does not have, and which key was probably meant."""

import difflib
import functools
import re

from oomguard.core.rule import OOM_SCORE_ADJ_MAX, OOM_SCORE_ADJ_MIN
from oomguard.core.sysctl import SYSCTLS, TRIGGERS
from oomguard.policy.fault import Problem, excerpt
from oomguard.policy.language import Language, models

_OTHER_WORDS = {
    word: key
    for key, words in {
        "name": "comm process program",
        "cmdline": "command args",
        "exe": "path",
        "user": "uid",
        "unit": "service",
        "cgroup": "slice",
        "oom_score_adj": "score value adj oom_adj oom_score OOMScoreAdjust",
        "at_most": "max",
        "at_least": "min",
        "vm": "sysctl",
        "overcommit_kbytes": "commit_limit",
        "memory": "ram",
        "hostname": "host",
        "kernel": "release",
        "rules": "processes",
        "resync_interval": "interval",
        "commit_headroom": "headroom",
    }.items()
    for word in words.split()
}
"""Words for our keys that a spelling check does not find: those of other tools, and a key of policies."""

_MISSPELT = 0.8
"""How similar a word must be to a sysctl's name to be taken for it. The kernel has many similar names, such
as mmap_rnd_bits and mmap_min_addr, and who follows a wrong hint sets the wrong one."""

_HAZARDS = {row.name for row in SYSCTLS.values() if row.hazard}

_OOM_ADJ_NEVER, _OOM_ADJ_MAX, _OOM_ADJ_SCALE = -17, 15, 17
"""The old scale (Linux 6.1, include/uapi/linux/oom.h)."""

_NO_SPACE = re.compile(r"(\w+)(?:[:=] ?| )(.+)", re.DOTALL)


@functools.lru_cache(maxsize=1024)
def unknown_key(key: str, value: str, language: type[Language], parents: tuple[str, ...]) -> Problem:
    """Return what is wrong with `key` below `parents`, and which one was probably meant.

    `value` is its text, "" for a list or mapping.
    """
    allowed = tuple(models(language)[parents].model_fields)
    if not key:
        return Problem(
            "unknown-key", "a key is missing before the ':'", f"allowed here: {', '.join(allowed)}"
        )
    section = parents[-1] if parents else ""
    sysctl = key if "." in key else f"{section}.{key}"
    if sysctl in TRIGGERS:
        message = f"{excerpt(key)} is not a setting: {TRIGGERS[sysctl]}"
        return Problem("trigger", message, "remove it")
    if key in SYSCTLS:
        prefix, _, knob = key.partition(".")
        return Problem("unknown-key", f"unknown key {key}", f"write {knob} below {prefix}:")
    near = meant(key, language, parents)
    if section in {"vm", "kernel"}:
        hint = f"did you mean {near}?" if near else _other_sysctl(key, section, allowed)
        return Problem("unknown-sysctl", "not a sysctl that oomguard sets", hint)
    hint = f"did you mean {near}?" if near else _other_key(key, language, parents)
    if key == "oom_adj" and near and re.fullmatch(r"-?[0-9]{1,2}", value):
        hint = _new_scale(int(value))
    return Problem("unknown-key", f"unknown key {excerpt(key)}", hint)


def meant(key: str, language: type[Language], parents: tuple[str, ...]) -> str:
    """Return the key below `parents` that an unknown key probably means, "" if none is similar enough."""
    allowed = tuple(models(language)[parents].model_fields)
    other = next((one for one in allowed if one.casefold() == key.casefold()), _OTHER_WORDS.get(key))
    if other in allowed:
        return other
    if parents[-1:] in {("vm",), ("kernel",)}:
        harmless = [one for one in allowed if f"{parents[-1]}.{one}" not in _HAZARDS]
        return nearest(key.casefold(), harmless, likeness=_MISSPELT)
    return "" if _without_space(key, allowed) else nearest(key.casefold(), allowed)


def _new_scale(adj: int) -> str:
    """Return what an oom_adj is on the scale of oom_score_adj (Linux 6.1, fs/proc/base.c:oom_adj_write)."""
    if not _OOM_ADJ_NEVER <= adj <= _OOM_ADJ_MAX:
        return "did you mean oom_score_adj?"
    new = OOM_SCORE_ADJ_MAX if adj == _OOM_ADJ_MAX else int(adj * OOM_SCORE_ADJ_MAX / _OOM_ADJ_SCALE)
    new = max(new, OOM_SCORE_ADJ_MIN)
    return f"write oom_score_adj: {new}; oom_adj is the old scale, {_OOM_ADJ_NEVER} (never) to {_OOM_ADJ_MAX}"


def _other_sysctl(key: str, section: str, allowed: tuple[str, ...]) -> str:
    inner = next((one for one in allowed if one.startswith(f"{key}.")), "")
    if inner:
        return f"write it in one word, as {inner}"
    other = "kernel" if section == "vm" else "vm"
    if f"{other}.{key}" in SYSCTLS:
        return f"write it below {other}:"
    return "set it in sysctl.d; `oomguard schema` lists the sysctls that oomguard sets"


def _other_key(key: str, language: type[Language], parents: tuple[str, ...]) -> str:
    allowed = tuple(models(language)[parents].model_fields)
    unspaced = _without_space(key, allowed)
    if unspaced:
        return f"write {unspaced[0]}: {excerpt(unspaced[1])}, with a space after the ':'"
    if not parents:
        if key == "cases":
            return "a case file is for: oomguard test"
        for keys, model in models(language).items():
            if key in model.model_fields:
                return f"write it below {'.'.join(keys)}:"
    return f"allowed here: {', '.join(allowed)}"


def _without_space(key: str, allowed: tuple[str, ...]) -> tuple[str, str] | None:
    """Return key and value of `at_most:-900` and of `at_most -900`, None where it is neither."""
    found = _NO_SPACE.fullmatch(key)
    return (found[1], found[2]) if found and found[1] in allowed else None


def nearest(word: str, words: tuple[str, ...] | list[str], *, likeness: float = 0.6) -> str:
    """Return the most similar of `words`, "" if none is similar enough; 1 is equal."""
    found = difflib.get_close_matches(word[:80], words, n=1, cutoff=likeness)
    return found[0] if found else ""
