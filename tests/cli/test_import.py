"""`oomguard import` as it is called."""

import sys
from pathlib import Path

import pytest

from oomguard.__main__ import main
from oomguard.policy.load import load


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
    assert "1 rule, 1 note" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nohang", "--", "--prefer", "x"], "nohang is read from files"),
        (["earlyoom", "/nonexistent/file"], "/nonexistent/file: cannot be read: No such file"),
        (["ananicy", "/nonexistent/folder"], "there is no such file or folder"),
    ],
)
def test_what_cannot_be_read_is_bad_usage(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    """Nothing is printed then."""
    assert call(monkeypatch, *arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err


def test_an_unknown_tool_names_those_there_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As argparse does."""
    with pytest.raises(SystemExit) as caught:
        call(monkeypatch, "tuned")
    assert caught.value.code == 2
    assert "earlyoom" in capsys.readouterr().err
