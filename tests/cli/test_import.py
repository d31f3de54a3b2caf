"""`oomguard import` as it is called."""

import json
import sys
from pathlib import Path

import pytest

from oomguard.__main__ import main
from oomguard.policy.load import load
from oomguard.propose.importers.table import IMPORTERS

OPTIONS = ("--prefer", "^chrom", "--avoid", "^ a$")


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run the verb."""
    monkeypatch.setattr(sys, "argv", ["oomguard", "import", *arguments])
    return main()


def test_what_is_printed_passes_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The policy is on stdout alone, so that it can be redirected."""
    assert call(monkeypatch, "earlyoom", "--", "--prefer", "^chrom", "-m", "5") == 0
    out, err = capsys.readouterr()
    file = tmp_path / "imported.yaml"
    file.write_text(out)
    assert len(load(str(file)).policy.rules) == 1
    assert "1 rule, 1 setting left out\n  review, then run: " in err


def test_nothing_imported_is_nothing_to_review(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor to check."""
    assert call(monkeypatch, "earlyoom", "--", "-m", "5") == 0
    assert capsys.readouterr().err == "oomguard: nothing imported, 1 setting left out\n"


IMPORTED = {
    "earlyoom": (
        "earlyoom",
        (
            "EARLYOOM_ARGS=\"-p --avoid '(^|/)(init|Xorg|sshd|a\\|b|firefox)$' --ignore '^earlyoom$' "
            "--prefer '^(sshd|Web Content)$'\"\n"
        ),
    ),
    "nohang": (
        "nohang.conf",
        (
            "@BADNESS_ADJ_RE_NAME -200 /// ^(gnome-shell|kthreadd)$\n"
            "@BADNESS_ADJ_RE_NAME 200 /// ^gnome-shell$\n"
            "@BADNESS_ADJ_RE_NAME -200 /// ^kthreadd$\n"
            "@BADNESS_ADJ_RE_CGROUP_V2 -50 /// /db\\.service$\n"
            "@BADNESS_ADJ_RE_CGROUP_V2 -50 /// db\n"
            "@BADNESS_ADJ_RE_CMDLINE -2000 /// ^/usr/bin/x\n"
        ),
    ),
    "ananicy": (
        "x.rules",
        (
            '{"name": "sshd", "oom_score_adj": -500}\n'
            '{"name": "Yes, Your Grace.exe", "oom_score_adj": 500}\n'
            '{"name": "what|ever", "oom_score_adj": 500}\n'
            '{"name": "it\u2019s", "oom_score_adj": 500}\n'
            '{"name": "fifteen-letters", "oom_score_adj": 500}\n'
            '{"name": "fifteen-letters-and-more", "oom_score_adj": 100}\n'
            '{"name": "a/b.service", "oom_score_adj": 500}\n'
            '{"name": "a-very-long name with spaces", "oom_score_adj": 500}\n'
        ),
    ),
    "systemd": ("x.service", "[Service]\nOOMScoreAdjust=-1000\n"),
    "sysctl": ("x.conf", "vm.dirty_ratio=10\nvm.dirty_bytes=0\nvm.overcommit_memory=1\nvm.swappiness=999\n"),
}


@pytest.mark.parametrize("tool", IMPORTERS)
def test_check_warns_of_nothing_that_was_imported(
    tool: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where another tool's setting is a trap in a policy, it becomes another rule, or is left out."""
    name, text = IMPORTED[tool]
    (tmp_path / name).write_text(text)
    assert call(monkeypatch, tool, str(tmp_path / name)) == 0
    file = tmp_path / "imported.yaml"
    file.write_text(capsys.readouterr().out)
    monkeypatch.setattr(sys, "argv", ["oomguard", "check", "--strict", str(file)])
    assert main() == 0
    out = capsys.readouterr().out
    assert "warning" not in out
    assert "0 rules and 0 sysctls" not in out


def test_a_program_that_hands_its_value_on_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And a user's program is protected where it runs as root; the rest of the list stays."""
    assert call(monkeypatch, "earlyoom", "--json", "--", "--avoid", "^(cron|sshd|Xorg)$") == 0
    document = json.loads(capsys.readouterr().out)
    assert [(rule["conditions"], rule["oom_score_adj"]) for rule in document["rules"]] == [
        ({"name": ["sshd"]}, "keep"),
        ({"name": ["Xorg"], "user": ["root"]}, {"at_most": -300}),
        ({"name": ["cron"]}, {"at_most": -300}),
    ]
    assert [one["what"] for one in document["left_out"]] == ["name Xorg, of other users"]


def test_as_json_it_says_where_each_rule_and_what_was_left_out_stood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the same policy, and nothing on stderr."""
    rules = tmp_path / "x.rules"
    rules.write_text(
        '{"name": "a", "oom_score_adj": 5}\n{"name": "b", "oom_score_adj": 5}\n{"name": "c", "type": "T"}\n'
    )
    assert call(monkeypatch, "ananicy", str(rules)) == 0
    text = capsys.readouterr().out
    assert call(monkeypatch, "ananicy", "--json", str(rules)) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert json.loads(out) == {
        "format": 1,
        "tool": "ananicy",
        "sysctls": [],
        "rules": [
            {
                "conditions": {"name": ["a", "b"]},
                "scope": "all",
                "oom_score_adj": 5,
                "reason": "oom_score_adj",
                "file": str(rules),
                "line": 1,
                "last_line": 2,
            }
        ],
        "left_out": [
            {
                "what": "c",
                "why": "no type 'T' in these files",
                "file": str(rules),
                "line": 3,
                "last_line": 3,
            }
        ],
        "policy": text,
    }


@pytest.mark.parametrize("words", [["--json", "--", *OPTIONS], [*OPTIONS, "--json"]], ids=" ".join)
def test_arguments_are_of_no_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    """Bounds are written as a policy has them; what is refused is left out. They need no `--`."""
    assert call(monkeypatch, "earlyoom", *words) == 0
    document = json.loads(capsys.readouterr().out)
    (rule,) = document["rules"]
    assert (rule["oom_score_adj"], rule["file"], rule["line"]) == ({"at_least": 300}, None, None)
    (left_out,) = document["left_out"]
    assert left_out["what"] == "name  a"
    assert "starts with a space" in left_out["why"]
    assert left_out["file"] is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["earlyoom", "/nonexistent/file"], "/nonexistent/file: no such file or folder"),
        (["ananicy", "/nonexistent/folder"], "no such file or folder"),
        (["ananicy", "/dev/null/rules"], "/dev/null/rules: cannot be read: Not a directory"),
    ],
)
def test_what_cannot_be_read_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    """Nothing is printed then."""
    assert call(monkeypatch, *arguments) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err


def test_options_of_a_tool_that_takes_files_are_bad_usage(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only earlyoom is configured by its options."""
    assert call(monkeypatch, "nohang", "--", "--prefer", "x") == 2
    assert "nohang takes files, not --prefer" in capsys.readouterr().err


def test_a_tool_that_is_not_on_this_host_says_how_to_name_its_files(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the name of the tool; whoever named a file needs no such hint."""
    monkeypatch.setattr("oomguard.propose.importers.nohang.DEFAULT", "/nonexistent/nohang.conf")
    assert call(monkeypatch, "nohang") == 1
    assert capsys.readouterr().err == (
        "oomguard: /nonexistent/nohang.conf: no such file or folder\n"
        "  if nohang's files are elsewhere: oomguard import nohang FILE\n"
    )
    assert call(monkeypatch, "nohang", "/nonexistent/file") == 1
    assert capsys.readouterr().err == "oomguard: /nonexistent/file: no such file or folder\n"


def test_an_unknown_tool_names_those_there_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As argparse does."""
    with pytest.raises(SystemExit) as caught:
        call(monkeypatch, "tuned")
    assert caught.value.code == 2
    assert "earlyoom" in capsys.readouterr().err
