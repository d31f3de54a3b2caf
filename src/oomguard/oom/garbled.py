"""Kills in text that a person, a camera or a cut garbled: `KiIled pr0cess 12O4`, joined words, lost colons.

Nothing in such a line can be believed, least of all its numbers. It is only found, so that it can be listed.
"""

import re

from oomguard.oom.log_messages import lines_with

_KILL = r"[iIl1|!j]{2,3}"
_GAP = r"(?:%20|_|[^\w\n]{0,3})"
_PID = r"(?=[oOIlSBZ|]{0,9}\d)[\doOIlSBZ|]{1,10}"
_GARBLED = re.compile(
    rf"[Kk](?<![a-z_]k|[a-z]K){_KILL}(?:(?:[eco]d)?{_GAP}p[rt][o0O]c[eco][s5S]{{1,2}}{_GAP}{_PID}"
    rf"|[eco]d[ :]{{0,2}}{_PID}[ ]?[({{\[])"
    rf"|[o0O][o0O]m(?:[^\w\n]|_){{0,3}}[Kk]{_KILL}(?:{_GAP}c[o0O]n[s5S]tra|[eco]r{_GAP}gfp)|invoked oom-kill"
    r"|ut of [mM]emory(?: \([a-z_]{1,40}\))?: (?:Kill|kill p)|lled process \d|or sacrifice ch"
    r"|t[o0O]ta[lI1|](?:[^\w\n]|_)?vm[^\w\n]{0,2}[\doOIl]{1,20}[^\d\n]{1,9}an[o0O]n[^\w\n]{0,2}r"
)
_IN_CAPITALS = re.compile(r"K[IJL1|!]{2}|LLED P|RIFICE CH|T[O0]TA[L1|]")
"""What a line of capitals has that may be one."""


def is_garbled_kill(text: str) -> bool:
    """Return whether a line looks like the kernel's about a kill, a choice or its beginning."""
    return _GARBLED.search(text.lower() if text.isupper() else text) is not None


def garbled_kills(text: str, begin: int, end: int) -> list[int]:
    """Return where the lines that look like one begin, in order: in one search, as most have none."""
    found = {start for start, _, _ in lines_with(_GARBLED, text, begin, end)}
    for start, _, after in lines_with(_IN_CAPITALS, text, begin, end):
        line = text[start:after]
        if line.isupper() and is_garbled_kill(line):
            found.add(start)
    return sorted(found)
