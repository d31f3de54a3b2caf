"""The pages themselves: their blocks are ones that the tests know, their links lead somewhere."""

import json
import re
from pathlib import Path

import pytest

from pages import PAGES, ROOT, anchors, blocks, is_as_shown, name, steps, with_outputs

LANGUAGES = {"console", "yaml", "text", "json", "ini"}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_blocks_are_of_a_kind_that_is_tried(page: Path) -> None:
    """A fence without a language, or an indented command, would hide from the tests what it says."""
    text = page.read_text()
    fences = re.findall(r"^```+(\w*)$", text, re.MULTILINE)
    assert set(fences[::2]) <= LANGUAGES
    assert not any(fences[1::2]), "a block is not closed"
    outside = re.sub(r"^<!--.*?-->$|^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    programs = r"oomguard|\.venv/|sh|sudo|python3?|systemctl|journalctl|apt-get"
    assert not re.findall(rf"(?<=\n\n)    (?:\S+=\S* )*(?:{programs})\b[^\n]*", outside), (
        "an indented block of commands"
    )


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_marks_are_ones_that_there_are(page: Path) -> None:
    """A misspelt one would leave its block untried, or run it in the wrong place."""
    assert all(step.text for step in steps(page))
    known = {"setup", "output", "background", "after Ctrl-C"}
    known |= {"vm", "vm setup", "walk", "walk setup", "network", "network setup"}
    for mark in re.findall(r"^<!-- (.*?)(?: -->|\n)", page.read_text(), re.MULTILINE):
        for one in [mark] if mark.startswith("not run: ") else mark.split(", "):
            assert one in known or re.fullmatch(r"not run: \S.*|exits \d+", one), mark


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_to_files_and_headings_that_there_are(page: Path) -> None:
    """Those to this repository; nothing else can be held to be there."""
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", prose(page)):
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), target
        assert there.is_relative_to(ROOT), target
        if anchor:
            assert anchor in anchors(there), f"{target}: there is {sorted(anchors(there))}"


TESTS = {str(test.relative_to(ROOT / "tests")) for test in (ROOT / "tests").rglob("test_*.py")}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_tests_that_a_page_names_are_there(page: Path) -> None:
    """By their name, or with folders in front of it."""
    for named in re.findall(r"`(?:tests/)?([\w/]*test_\w+\.py)\b", page.read_text()):
        assert any(f"/{test}".endswith(f"/{named}") for test in TESTS), named


SOURCE = ROOT / "src/oomguard"
MODULES = {str(module.relative_to(SOURCE)) for module in SOURCE.rglob("*.py")}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_modules_that_a_page_names_are_there(page: Path) -> None:
    """With their folder, as in `core/rule.py`."""
    folders = "|".join(folder.name for folder in SOURCE.iterdir() if folder.is_dir())
    for named in re.findall(rf"`((?:{folders})/(?!test_)[a-z_/]+\.py)`", page.read_text()):
        assert named in MODULES, named


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_json_is_json(page: Path) -> None:
    """Each block is one document, or one a line."""
    for block in blocks(page.read_text(), "json"):
        try:
            json.loads(block)
        except ValueError:
            for line in block.splitlines():
                json.loads(line)


def test_every_how_to_is_in_the_list_of_how_tos() -> None:
    """And the list is in the README."""
    folder = ROOT / "docs" / "howto"
    listed = set(re.findall(r"\]\(([\w-]+\.md)\)", (folder / "README.md").read_text()))
    assert listed == {page.name for page in folder.glob("*.md")} - {"README.md"}
    assert "docs/howto/README.md" in (ROOT / "README.md").read_text()


def prose(page: Path) -> str:
    """Return a page without its fenced blocks and code."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`\n]*`(?!\])", "", text)


def test_an_ellipsis_stands_for_anything_and_nothing_else_does() -> None:
    """Within a line for a part of it, alone for any number of lines."""
    assert is_as_shown("pid 12 ran\n", "pid … ran")
    assert is_as_shown("a\nb\nc\nd\n", "a\n…\nd\n")
    assert is_as_shown("a\nd\n", "a\n…\nd\n")
    assert not is_as_shown("a\nb\nc\n", "a\n…\nd\n")
    assert not is_as_shown("a\nb\n", "a\n")
    assert not is_as_shown("a+b", "aab")


def test_outputs_are_written_below_their_commands(tmp_path: Path) -> None:
    """In place of an older one, or as the first; the rest of the page stays."""
    page = tmp_path / "page.md"
    page.write_text(
        "```console\na\n```\n\nText.\n\n```console\nb\n```\n\n<!-- output -->\n```text\nold\n```\nEnd.\n"
    )
    page.write_text(with_outputs(page, {step.line: f"{step.text.strip()} ran\n" for step in steps(page)}))
    assert [(step.text, step.output) for step in steps(page)] == [("a\n", "a ran\n"), ("b\n", "b ran\n")]
    assert re.sub(r"<!-- output.*?```.*?```\n", "", page.read_text(), flags=re.DOTALL) == (
        "```console\na\n```\n\n\nText.\n\n```console\nb\n```\n\nEnd.\n"
    )
