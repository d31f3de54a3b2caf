"""Words of people and programs about a kill: `mysqld was killed by the OOM killer`, `pod web got OOM-killed`.

They are no report, as nobody knows what they leave out. They are only found, so that they can be listed.
"""

import re
from collections.abc import Iterator

from oomguard.oom.log_messages import lines_with

_OOM = r"(?:[oO][mM](?=[^\w\n]|[ _-]?[kK](?:ill|ILL)|$)|[uU][tT][ _-][oO][fF][ _-][mM](?:emory|EMORY))"
_BY_KERNEL = r"(?! process \d|: (?:gfp|constr))"
_KILLED = (
    rf"(?:[kK]ill(?:ed|er\b){_BY_KERNEL}|KILLED|KILLER|[tT]erminated|[kK]ill(?: detec| event| of|: \d)|shot)"
)
_COUNTED = r"[oO][mM][ _-](?:group_)?[kK](?:ills?|ILLS?)(?=[\s\"'=(),.;]|:(?!con)|$)"
_MAY_SAY = re.compile(
    r"(?m)[oOkKtT]"
    rf"(?:(?<=[oO])(?<![A-Za-z.][oO])(?:{_OOM}[^\n]{{0,60}}?{_KILLED}|{_COUNTED}|UT_OF_ME(?:\+|MORY\b))"
    rf"|(?<=[kK])(?:illed{_BY_KERNEL}|ILLED)[^\n]{{0,60}}?(?<![\w.])[oO]{_OOM}"
    rf"|(?<=[tT])erminated[^\n]{{0,60}}?(?<![\w.])[oO]{_OOM})"
)
"""What a line has that speaks of a kill. It begins with one set of characters: that makes it fast."""
_PID = re.compile(
    r"(?:\bpid|process)\W{0,3}(\d{1,10})\b|\((?:pid )?(\d{2,10})\)|\[(\d{2,10})\](?!:)|\b(\d{2,10}) \("
)
_PAST = r"(?:killed|terminated|shot|ended|picked|chose|reaped|took|got|claimed|struck|hit|stopped)\b"
_SAYS = re.compile(
    r"(?:killed|terminated|shot)\b.{0,60}?\b(?:oom|out.of.memory)"
    rf"|\b(?:oom|out.of.memory)[ _-]?killer\W.{{0,30}}?\b{_PAST}"
    rf"|\boom(?:[ _-]?killed\b|.{{0,60}}?[ :(]{_PAST})|out.of.memory.{{0,60}}?\b(?:killed|terminated)"
    r"|oom[ _-]kills?(?: detected| events?\b| of| happened| occurred| (?:on|in|for) [\w.-]{1,64} ?[:(])"
    r"|(?:failed|result|reason|stat(?:e|us)|because of|due to)[\s:=(\"']{1,4}oom[ _-]kill(?![\w.-])"
    r"|\b(?:(?:was|had|shows|saw) (?:an )?oom[ _-]kills?|(?:[1-9]\d{0,9}|two) oom[ _-]kills)(?![\w.-])"
    r"|(?:\b|vmstat_)oom[ _-](?:group_)?kills?(?: count| since boot)?[\"']?(?: ?[:=])? {0,9}"
    r"[1-9]\d{0,9}(?=[\s\"']*(?:\Z|[,}]))"
    r"|out_of_me(?:\+|mory +\d+:)|state[:=] ?out_of_memory"
    r"|(?:\bvom|\bpar l.|\bpor el|\bda[li]l?.|\bprzez|\bpelo|от|被) ?oom"
)
_OPEN = re.compile(
    r"\b(?:if|may|might|can|cannot|could|would|should|will|unless|whether|how|why|what|which|when|whenever|be"
    r"|being|avoid|prevent|is|are|going|likely|first)\b[^.;]{0,60}\Z"
)
"""What stands before a kill of which nobody says that it has happened, unless with a pid."""
_NEVER = re.compile(r"\b(?:no|not|never|nothing|nobody|none|0 \w+)\b[^.;,:]{0,30}\Z|n't [^.;,:]{0,20}\Z")
_COMMENT = re.compile(r"\s*(?:#(?!\d)|//|;|\{%)")
_KILLER = re.compile(r"\boom[ _-]?killer")
_FURTHER = 200
"""Characters behind such words in which a pid may be."""
_IS_NOT = re.compile(r"[\"']?[:=]\s*[\"']?(?:false|no|0)\b")


def lines_about_kills(text: str, begin: int, end: int) -> Iterator[tuple[int, str]]:
    """Yield the lines that may speak of a kill, and where each begins."""
    for start, said, after in lines_with(_MAY_SAY, text, begin, end):
        yield start, text[start : min(after, said + _FURTHER)]


def killed_in(line: str) -> int | None:
    """Return the pid that a line says was killed, 0 if it names none, None if it says no such thing."""
    line = line.lower()
    if _COMMENT.match(line):
        return None
    named, said = _PID.search(line), _SAYS.search(line)
    pid = 0 if named is None else int(named[named.lastindex or 0])
    if said is None:
        return pid if pid and _KILLER.search(line) else None
    before = line[: max(line.find("kill", said.start(), said.end()), said.start())]
    if _NEVER.search(before) or _IS_NOT.match(line, said.end()) or (not pid and _OPEN.search(before)):
        return None
    return pid
