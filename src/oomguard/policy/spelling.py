"""What to say about a key that the language does not have."""

import difflib
import functools

from oomguard.core.sysctl import SYSCTLS, TRIGGERS
from oomguard.policy.fault import Words, excerpt
from oomguard.policy.model import MODELS

_OTHER_WORDS = {
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


_MISSPELT = 0.8
"""How like a sysctl's name a word must be to be taken for it: the kernel has many of like names, such as
mmap_rnd_bits and mmap_min_addr, and who follows a hint writes what the other would do."""


@functools.lru_cache(maxsize=1024)
def unknown_key(key: str, parents: tuple[str, ...]) -> Words:
    """Return what is wrong with `key` below `parents`, and which one was probably meant."""
    allowed = tuple(MODELS[parents].model_fields)
    if not key:
        return Words("unknown-key", "a key is missing before the ':'", f"allowed here: {', '.join(allowed)}")
    section = parents[0] if parents else ""
    sysctl = key if "." in key else f"{section}.{key}"
    if sysctl in TRIGGERS:
        message = f"{excerpt(key)} is no setting: {TRIGGERS[sysctl]}"
        return Words("trigger", message, "remove it; a policy holds what lasts")
    if key in SYSCTLS:
        prefix, _, knob = key.partition(".")
        return Words("unknown-key", f"unknown key {key}", f"write {knob} below {prefix}:")
    if section in {"vm", "kernel"}:
        message = f"{excerpt(key)} is not a {section}.* sysctl that oomguard sets"
        return Words("unknown-sysctl", message, _meant_sysctl(key, section, allowed))
    return Words("unknown-key", f"unknown key {excerpt(key)}", _meant_key(key, parents, allowed))


def _meant_sysctl(key: str, section: str, allowed: tuple[str, ...]) -> str:
    inner = next((one for one in allowed if one.startswith(f"{key}.")), "")
    if inner:
        return f"write it in one word, as {inner}"
    harmless = [one for one in allowed if not SYSCTLS[f"{section}.{one}"].hazard]
    near = nearest(key, harmless, likeness=_MISSPELT)
    if near:
        return did_you_mean(near)
    other = "kernel" if section == "vm" else "vm"
    if f"{other}.{key}" in SYSCTLS:
        return f"write it below {other}:"
    return "leave it to sysctl.d, or see oomguard schema for those it sets"


def _meant_key(key: str, parents: tuple[str, ...], allowed: tuple[str, ...]) -> str:
    word, colon, value = key.partition(":")
    if colon and word in allowed:
        return f"write {word}: {excerpt(value)}, with a space after the ':'"
    other = _OTHER_WORDS.get(key)
    near = other if other in allowed else nearest(key, allowed)
    if near:
        return did_you_mean(near)
    if not parents:
        for keys, model in MODELS.items():
            if key in model.model_fields:
                return f"it belongs below {'.'.join(keys)}:"
    return f"allowed here: {', '.join(allowed)}"


def did_you_mean(word: str) -> str:
    """Return the hint that names what was probably meant."""
    return f"did you mean {word}?"


def nearest(word: str, words: tuple[str, ...] | list[str], *, likeness: float = 0.6) -> str:
    """Return the one of `words` that was probably meant, "" if none is as like it as `likeness`, up to 1."""
    found = difflib.get_close_matches(word[:80], words, n=1, cutoff=likeness)
    return found[0] if found else ""
