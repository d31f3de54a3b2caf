"""Kills in text that a person, a camera or a cut garbled: `KiIled pr0cess 12O4`, joined words, lost colons.

Nothing in such a line can be believed, least of all its numbers. It is only found, so that it can be listed.
"""

import re

_KILL = r"[iIl1|!j]{2,3}"
_GAP = r"(?:%20|\W{0,3})"
_PID = r"(?=[oOIlSBZ|]{0,9}\d)[\doOIlSBZ|]{1,10}"
_GARBLED = re.compile(
    rf"[Kk](?<![a-z_][Kk]){_KILL}(?:(?:[eco]d)?{_GAP}p[rt][o0O]c[eco][s5S]{{1,2}}{_GAP}{_PID}"
    rf"|[eco]d[ :]{{0,2}}{_PID}[ ]?[({{\[])"
    rf"|[o0O][o0O]m[\W_]{{0,3}}[Kk]{_KILL}(?:{_GAP}c[o0O]n[s5S]tra|[eco]r{_GAP}gfp)|invoked oom-kill"
    r"|ut of [mM]emory(?: \([a-z_]{1,40}\))?: (?:Kill|kill p)|lled process \d|or sacrifice ch"
    r"|t[o0O]ta[lI1|][\W_]?vm\W{0,2}[\doOIl]{1,20}\D{1,9}an[o0O]n\W{0,2}r"
)


def is_garbled_kill(text: str) -> bool:
    """Return whether a text looks like the kernel's line about a kill, a choice or its beginning."""
    return _GARBLED.search(text.lower() if text.isupper() else text) is not None
