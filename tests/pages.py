"""The pages of the documentation, taken apart: what they tell a reader to write and to run.

A page is Markdown. What counts in it:

- a fenced block of `console` is a script for `sh -e`, without prompts so that it can be copied;
- a fenced block of `yaml` is a policy; if its first line is `# /a/path`, the reader is to write it there;
- a comment right before a block says what is special about it:

      <!-- vm -->            runs in the virtual machine: it takes systemd, or changes what is global
      <!-- walk -->          runs in a virtual machine of its own, in which oomguard is not installed yet
      <!-- network -->       runs with the tests that have a network (-m packaging)
      <!-- background -->    goes on while the rest of the page is tried, and is then ended by Ctrl-C
      <!-- after Ctrl-C -->  runs after that was ended
      <!-- exits 3 -->       ends with this status
      <!-- output -->        before a block of text: what the commands before print; … is anything
      <!-- not run: why -->  is not tried, and why

- `<!-- setup`, or `<!-- vm setup` and so on, lines, and `-->` are commands that a reader need not see: they
  bring about what the page is about.
"""

import re
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *(ROOT / "docs").rglob("*.md")]
)

_PART = re.compile(
    r"^<!-- (?P<set>(?:\w+ )?setup)\n(?P<lines>.*?)^-->\n"
    r"|^(?:<!-- (?P<mark>[^\n]*) -->\n)?^(?P<fence>```+)(?P<language>\w*)\n(?P<text>.*?)^(?P=fence)$",
    re.MULTILINE | re.DOTALL,
)
_PATH = re.compile(r"# (/\S+)\n")
_WHERE = ("vm", "walk", "network")


class Step(NamedTuple):
    """Something that a reader of a page does.

    `where` is "here", "vm", "walk" or "network", or "" for what is not tried, for the `reason`. A step that
    writes has a `path`, and is done wherever the page is tried; one that runs ends with `status`, and may
    have an `output`.
    """

    page: Path
    line: int
    where: str
    text: str
    path: str = ""
    reason: str = ""
    background: bool = False
    afterwards: bool = False
    status: int = 0
    output: str | None = None

    @property
    def place(self) -> str:
        """Where it stands, as `docs/page.md:12`."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def name(page: Path) -> str:
    """Return the name of a page, for the ids of tests."""
    return str(page.relative_to(ROOT))


def blocks(text: str, language: str) -> list[str]:
    """Return the fenced blocks of a language."""
    return [part["text"] for part in _PART.finditer(text) if part["language"] == language and part["fence"]]


def steps(page: Path) -> list[Step]:
    """Return what a reader of the page does, in order."""
    text = page.read_text()
    found: list[Step] = []
    for part in _PART.finditer(text):
        line = text.count("\n", 0, part.start("fence") if part["fence"] else part.start()) + 1
        if part["set"]:
            where = part["set"].removesuffix("setup").strip()
            found.append(Step(page, line, where or "here", part["lines"]))
            continue
        mark = part["mark"] or ""
        marks = [] if not mark or mark.startswith("not run: ") else mark.split(", ")
        if part["language"] == "console":
            found.append(_command(page, line, part["text"], mark, marks))
        elif part["language"] == "yaml" and (path := _PATH.match(part["text"])):
            found.append(Step(page, line, "anywhere", part["text"], path=path[1]))
        elif marks == ["output"]:
            found[-1] = found[-1]._replace(output=part["text"])
        elif marks:
            raise ValueError(f"{page}:{line}: {mark!r} says nothing of a block of {part['language']}")
    return found


def _command(page: Path, line: int, text: str, mark: str, marks: list[str]) -> Step:
    if mark.startswith("not run: "):
        return Step(page, line, "", text, reason=mark.removeprefix("not run: "))
    step = Step(page, line, "here", text)
    for one in marks:
        if one in _WHERE:
            step = step._replace(where=one)
        elif one == "background":
            step = step._replace(background=True)
        elif one == "after Ctrl-C":
            step = step._replace(afterwards=True)
        elif status := re.fullmatch(r"exits (\d+)", one):
            step = step._replace(status=int(status[1]))
        else:
            raise ValueError(f"{page}:{line}: {one!r} is no mark of a block of commands")
    return step


def is_as_shown(printed: str, shown: str) -> bool:
    """Tell whether a program printed what a page shows.

    `…` is anything in its line; alone, it is any number of lines. Blanks at the ends of lines do not count.
    """
    pattern = "".join(
        r"(?:[^\n]*\n)*" if line == "…" else "[^\n]*".join(map(re.escape, line.rstrip().split("…"))) + "\n"
        for line in shown.strip().splitlines()
    )
    return (
        re.fullmatch(pattern, "".join(f"{line.rstrip()}\n" for line in printed.strip().splitlines()))
        is not None
    )


def with_outputs(page: Path, printed: dict[int, str]) -> str:
    """Return the text of a page with what its commands printed, by the line where their block stands."""
    text = page.read_text()
    parts = [*_PART.finditer(text)]
    for part, after in reversed([*zip_longest(parts, parts[1:])]):
        line = text.count("\n", 0, part.start("fence")) + 1
        if part["language"] == "console" and line in printed:
            shown = f"\n\n<!-- output -->\n```text\n{printed[line]}```" if printed[line] else ""
            end = after.end() if after and after["mark"] == "output" else part.end()
            text = text[: part.end()] + shown + text[end:]
    return text


def anchors(page: Path) -> set[str]:
    """Return the anchors that a page's headings have."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
