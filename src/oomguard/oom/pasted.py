"""Undoes what copying does to a short log: the order of its lines, and the escapes of web pages and mails."""

import re
from collections.abc import Iterable, Iterator
from itertools import chain

from oomguard.oom.kill import CONTEXT, KILLED

WHOLE = 1 << 20
"""Characters of a log that may be a copy: nobody pastes more."""
_CHOSEN = (
    (CONTEXT, re.compile(r",pid=(\d{1,10}),")),
    (": Kill process ", re.compile(r"process (\d{1,10}) ")),
)
"""What the kernel prints before a kill, and where the pid is in it."""
_STAMP = re.compile(r"\[ *(\d{1,12}\.\d{1,9})[] ]")


_ENTITIES = {"lt": "<", "gt": ">", "quot": '"', "nbsp": " ", "amp": "&"}
_NUMBER = "#(?:(?P<decimal>\\d{2,6})|x(?P<hex>[0-9a-fA-F]{2,5}))"
_TAG = r"</?(?!TASK|IRQ|NMI|SOFTIRQ|EOI)(?P<tag>[A-Za-z][\w:.-]{0,40})(?:[ /][^<>\n]{0,80})?>"
_DASHES = "[\u2010-\u2014](?=vm|rss|kill)"
_MARKUP = re.compile(
    rf"&(?:(?P<entity>{'|'.join(_ENTITIES)})|{_NUMBER});|=(?P<byte>3D|20|09)|{_TAG}|<!\[CDATA\[|\]\]>"
    r"|\[/?(?i:code|quote|pre|spoiler)(?:[=:][^]\n]{0,80})?\]|\\(?P<escaped>[][_*()<>-])"
    rf"|\[\d{{1,3}}(?:;\d{{1,3}}){{0,3}}m(?:\[K)?|\[m\[K|(?P<dash>{_DASHES})"
)
"""Escapes and tags of HTML, XML, Markdown and forums, bytes in mails, and colors that lost a character.

None becomes a line break: users choose much of a log.
"""
_SOFT_BREAKS = re.compile(r"(?m)^(?:[^\n]*=\n)+[^\n]*\n?")
"""A line that a mail broke, and the end of it."""
_BORDER = re.compile(r"(?m)(?<![ \t])[ \t]*│$")
"""What tmux draws to the right of a window."""
_ENDING = re.compile(r"(?m) total_vm [^\n]{0,90} name( ?[\\;,][^\n\"'}]{0,20}|\t[^\n]{0,80})$")
"""What something put behind the heading of a table, and so perhaps behind each line."""
_HAS_MARKUP = re.compile(
    r"&(?:lt|gt|quot|#\d{2,6}|#x[0-9a-fA-F]{2,5}|nbsp);|</(?!TASK|IRQ|NMI|SOFTIRQ|EOI)[A-Za-z]|<br|=3D|\]\]>|\[0m"
    rf"|\[/(?i:code|quote|pre|spoiler)\]|(?:oom|gfp)\\_|{_DASHES}"
)


def as_logged(blocks: Iterable[str]) -> tuple[Iterator[str], int]:
    """Return a log block by block: one that is short without markup, and with the oldest line first.

    Lines keep their numbers; if they are in the other order, also returns how many there are, else 0.
    """
    rest, text = iter(blocks), ""
    for block in rest:
        text += block
        if len(text) > WHOLE:
            return chain([text], rest), 0
    if "\n" not in text:
        text = text.replace("\r", "\n")
    for end in ("$\n", "^M\n"):  # cat -A
        if text.count(end) > 1 and text.count(end) == text.count("\n"):
            text = text.replace(end, "\n")
    if "│\n" in text:
        text = _BORDER.sub("", text)
    if _HAS_MARKUP.search(text) is not None:
        if "=3D" in text:
            text = _SOFT_BREAKS.sub(
                lambda found: found[0].replace("=\n", "") + found[0].count("=\n") * "\n", text
            )
        # Entries of JSON escape what they must.
        lines = text.splitlines(keepends=True)
        text = "".join(line if line.startswith("{") else _MARKUP.sub(_plain, line) for line in lines)
    if (ending := _ENDING.search(text)) is not None and text.count(f"{ending[1]}\n") > text.count("\n") // 2:
        text = text.replace(f"{ending[1]}\n", "\n").removesuffix(ending[1])
    if not _is_reversed(text):
        return iter([text]), 0
    text = _reversed(text)
    return iter([text]), text.count("\n")


def _plain(found: re.Match[str]) -> str:
    if found["byte"] is not None:
        return chr(int(found["byte"], 16))
    if found["dash"] is not None:
        return "-"
    if found["tag"] in ("td", "th"):
        return " "
    if number := found["decimal"] or found["hex"]:
        character = chr(int(number, 16 if found["hex"] else 10))
        return character if character.isprintable() else found[0]
    return found["escaped"] or _ENTITIES.get(found["entity"], "")


def _is_reversed(text: str) -> bool:
    """Return whether a process was killed before it was chosen.

    By lines with the kernel's own times only if all times go back: a user's text could look so.
    """
    for words, pattern in _CHOSEN:
        at = text.find(words)
        start, end = text.rfind("\n", 0, at) + 1, text.find("\n", at)
        line = text[start : len(text) if end < 0 else end]
        if at < 0 or not (found := pattern.findall(line)):
            continue
        kill = f"{KILLED}{found[-1]} ("
        if kill in text[:start] and text.find(kill, at) < 0:
            times = [float(stamp) for stamp in _STAMP.findall(text)] if _STAMP.search(line) else []
            return not times or (times[0] > times[-1] and times == sorted(times, reverse=True))
    return False


def _reversed(text: str) -> str:
    """Return the lines in the other order; those that are indented stay behind the one before."""
    messages: list[str] = []
    for line in text.removesuffix("\n").split("\n"):
        if line.startswith(" ") and messages:
            messages[-1] += f"{line}\n"
        else:
            messages.append(f"{line}\n")
    return "".join(reversed(messages))
