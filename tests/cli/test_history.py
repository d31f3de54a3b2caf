"""`oomguard history`: what was recorded, for people and programs."""

import json
import os
import tempfile
import time
from pathlib import Path

import pytest

from oomguard.cli.main import run_verb
from oomguard.core.errors import OomguardError
from oomguard.core.sample import Holder, Left, Sample
from oomguard.reconcile.flight_recorder import Recorder
from oomguard.reconcile.state_folder import StateFolder, open_state_folder

GIB = 1024 * 1024


def record(folder: StateFolder, *held_gib: float) -> None:
    """Record a minute for each size of one process, up to now; a small one stays as it is."""
    recorder = Recorder(folder)
    assert recorder.open() == ""
    seconds = 60 * (len(held_gib) - 1)
    begin, booted = time.time() - seconds, time.monotonic() - seconds
    for minute, gib in enumerate(held_gib):
        leak = Holder(1234, 1, "chrome", "app-chrome.scope", int(gib * GIB), 0, 300, "name=chrome")
        still = Holder(5678, 1, r"\x1b[2Jnew\n", "", 9000, 0, 0)
        left = Left(int((8 - gib) * GIB), 8 * GIB)
        recorder.record(
            Sample(begin + 60 * minute, booted + 60 * minute, left, 3 * GIB, None, (leak, still)),
            in_episode=False,
        )
    recorder.close()


def test_what_grew_is_shown_with_the_time_it_took(
    folder: StateFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    """And nothing that did not."""
    record(folder, 1, 2, 3)
    assert run_verb(["history", "--state-dir", folder.path]) == 0
    shown = capsys.readouterr().out
    first, last = (line.split() for line in shown.splitlines()[2:5:2])
    assert (first[1], last[1]) == ("7.0G", "5.0G")
    grew = shown.split("GREW")[1].splitlines()[2:]
    assert [line.split()[:9] for line in grew] == [
        ["chrome[1234]", "app-chrome.scope", "1.0", "GiB", "3.0", "GiB", "2", "minutes", "▃"]
    ]


def test_a_single_sample_shows_no_growth(folder: StateFolder, capsys: pytest.CaptureFixture[str]) -> None:
    """In the daemon's first minute, nobody knows what grows."""
    record(folder, 1.0)
    assert run_verb(["history", "--state-dir", folder.path]) == 0
    assert capsys.readouterr().out.endswith("\nOnly one sample so far.\n")


def test_names_are_whole_in_80_columns(folder: StateFolder, capsys: pytest.CaptureFixture[str]) -> None:
    """The unit is cut first. Growth of less than a hundredth is not shown."""
    recorder = Recorder(folder)
    assert recorder.open() == ""
    for minute in range(2):
        first = Holder(13580, 1, "qemu-system-x86", f"machine-{'x' * 40}.scope", (1 + minute) * GIB, 0, 0)
        still = Holder(13581, 1, "still", "", 2 * GIB + minute * 9000, 0, 0)
        at = time.time() - 86400 * (1 - minute)
        left = Left(212 * 1024, 8 * GIB, 2 * GIB, 8 * GIB)
        sample = Sample(at, time.monotonic() - 86400 * (1 - minute), left, 12 * GIB, 38.0, (first, still))
        recorder.record(sample, in_episode=False)
    recorder.close()
    run_verb(["history", "--state-dir", folder.path])
    shown = capsys.readouterr().out
    assert shown.count("qemu-system-x86[13580]") == 3
    assert "still" not in shown
    assert "…" in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_only_the_time_asked_for_counts(folder: StateFolder, capsys: pytest.CaptureFixture[str]) -> None:
    """Growth is that of this time, too."""
    record(folder, 1, 2, 3)
    assert run_verb(["history", "--state-dir", folder.path, "--since", "90s", "--json"]) == 0
    samples = json.loads(capsys.readouterr().out)
    assert [one["holders"][0]["rss_kib"] for one in samples] == [2 * GIB, 3 * GIB]
    assert samples[0]["holders"][1]["rule"] is None
    assert run_verb(["history", "--state-dir", folder.path, "--since", "0s"]) == 0
    assert capsys.readouterr().out == "Nothing was recorded in that time.\n"


def test_what_was_killed_is_shown_up_to_its_end(
    folder: StateFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    """The bars end where it did."""
    recorder = Recorder(folder)
    assert recorder.open() == ""
    for minute in range(12):
        leak = Holder(7, 1, "leak", "", (1 + minute) * GIB, 0, 0)
        held = (leak,) if minute < 6 else ()
        recorder.record(
            Sample(time.time() + 60 * minute, 60.0 * minute, Left(GIB, GIB), 0, None, held), in_episode=False
        )
    recorder.close()
    run_verb(["history", "--state-dir", folder.path])
    [row] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("leak[7]")]
    assert row.split()[1:7] == ["1.0", "GiB", "6.0", "GiB", "5", "minutes"]
    assert row.endswith("█")


def test_a_page_shows_the_same(folder: StateFolder, tmp_path: Path) -> None:
    """For a ticket. An older page is replaced."""
    record(folder, 1, 2, 3)
    page = tmp_path / "history.html"
    page.write_text("old")
    assert run_verb(["history", "--state-dir", folder.path, "--html", str(page)]) == 0
    shown = page.read_text()
    assert shown.startswith("<!DOCTYPE html>")
    assert "At the lowest, 5.0 GiB were available" in shown
    assert "chrome[1234]" in shown


def test_nothing_recorded_is_an_error_with_the_reasons(tmp_path: Path) -> None:
    """No daemon ran, or its policy says so."""
    with pytest.raises(OomguardError, match="nothing is recorded there") as error:
        run_verb(["history", "--state-dir", str(tmp_path)])
    assert "recorder: off" in (error.value.hint or "")


@pytest.mark.parametrize("text", ["10", "m", "-5m", "10 m", "1w", "9999999s"])
def test_a_time_that_is_none_is_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With what is allowed."""
    with pytest.raises(SystemExit) as end:
        run_verb(["history", f"--since={text}"])
    assert end.value.code == 2
    assert "must be a time span such as 90s, 10m, 2h or 1d" in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_only_root_can_read_it() -> None:
    """It names the processes of all users."""
    with tempfile.TemporaryDirectory(dir="/tmp") as made:  # pytest's own folders are closed to others
        os.chmod(made, 0o755)
        folder = open_state_folder(f"{made}/state")
        record(folder, 1)
        folder.close()
        run_verb(["history", "--state-dir", folder.path])  # loads the modules, which others may not read
        child = os.fork()
        if not child:
            os.setresuid(65534, 65534, 65534)
            try:
                run_verb(["history", "--state-dir", folder.path])
            except OomguardError as error:
                os._exit(7 if error.message == f"{folder.path}/recorder: only root can read it" else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
