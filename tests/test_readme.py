"""The README: what it shows must be so."""

import re
from pathlib import Path

import pytest

from oomguard.cli.main import build_parser
from oomguard.policy.load import load
from oomguard.policy.schema import json_schema

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])


def blocks(text: str, language: str) -> list[str]:
    """Return the fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_policies_shown_are_valid(page: Path, tmp_path: Path) -> None:
    """Each block of YAML is a policy that the loader takes without a warning it does not mention."""
    for number, block in enumerate(blocks(page.read_text(), "yaml")):
        policy = tmp_path / f"{number}.yaml"
        policy.write_text(block)
        load(str(policy))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """To files of this repository; nothing else can be held to be there."""
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_every_verb_is_in_the_table() -> None:
    """And every verb in the table is one."""
    verbs = build_parser()._subparsers
    assert verbs is not None
    (action,) = verbs._group_actions
    assert action.choices is not None
    assert set(re.findall(r"^\| `(\w+)", README, re.MULTILINE)) == set(action.choices)


def test_the_test_command_is_what_ci_runs() -> None:
    """.ci/run takes it from here; it must find it."""
    assert any("sh .ci/setup dev && " in block and "pytest" in block for block in blocks(README, "console"))


def test_the_reference_has_every_key() -> None:
    """Those at the top of a policy, and those of a rule."""
    text = (ROOT / "docs" / "policy.md").read_text()
    schema = json_schema()
    rule = next(part for part in schema["$defs"].values() if "oom_score_adj" in part.get("properties", {}))
    for key in [*schema["properties"], *rule["properties"]]:
        assert f"`{key}`" in text, key
