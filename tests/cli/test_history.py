"""`oomguard history`: what was recorded, for people and programs."""

import json
import os
import tempfile
import time
from datetime import datetime
from pathlib import Path

import pytest

from oomguard.cli.main import run_verb
from oomguard.core.errors import OomguardError
from oomguard.core.sample import Holder, Left, Sample
from oomguard.reconcile.flight_recorder import FILE, Recorder
from oomguard.reconcile.state_folder import StateFolder, open_state_folder
from oomguard.report.recording_page import recording_page
from oomguard.report.recording_table import print_recording
from pages import ROOT, blocks

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
    first, last = (line.split() for line in shown.splitlines()[5:8:2])
    assert (first[1], last[1]) == ("7.0G", "5.0G")
    grew = shown.split("GREW")[1].splitlines()[2:]
    assert [line.split() for line in grew] == [
        ["chrome[1234]", "app-chrome.scope", "1.0", "GiB", "3.0", "GiB", "2", "minutes", "▃▃▃▃▃▃▆▆▆▆▆█"]
    ]


def moment(minute: int, *holders: Holder, available_kib: int = 4 * GIB, cgroup: str = "") -> Sample:
    """Return what was at a minute after 11:07:21, without swap and pressure information."""
    at = datetime(2026, 11, 23, 11, 7, 21).astimezone().timestamp() + 60 * minute
    total_kib = GIB if cgroup else 8 * GIB
    return Sample(at, 1000.0 + 60 * minute, Left(available_kib, total_kib), 3 * GIB, None, holders, cgroup)


def test_the_page_shows_what_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """Also its spaces."""
    sizes, stalled = (0.7, 0.8, 1.0, 1.3, 1.7, 2.1), (0.0, 0.0, 0.0, 0.0, 12.0, 38.0)
    samples = []
    for minute, (size, share) in enumerate(zip(sizes, stalled, strict=True)):
        chrome = Holder(1234, 1, "chrome", "app-chrome.scope", int(size * GIB), 0, 300)
        one = moment(minute, chrome, available_kib=int((2.3 - size) * GIB))
        swap = Left(one.left.available_kib, 8 * GIB, max(2 - minute, 0) * GIB // 2, GIB)
        promised = int((3 + size) * GIB)
        samples.append(one._replace(left=swap, stalled_percent=share, committed_kib=promised))
    make = Holder(2001, 105_500, "cc1plus", "session-2.scope", 300 * 1024, 0, 0)
    samples[1] = samples[1]._replace(holders=(*samples[1].holders, make))
    print_recording(samples)
    _, shown = blocks((ROOT / "docs" / "history.md").read_text(), "text")
    assert capsys.readouterr().out == shown


def test_what_grew_most_comes_first_and_what_was_seen_once_last(capsys: pytest.CaptureFixture[str]) -> None:
    """A large program that ran for a moment grew by all it had, but there is nothing to compare."""
    leak = [Holder(7, 1, "leak", "", (100 + 10 * minute) * 1024, 0, 0) for minute in range(3)]
    brief = [Holder(pid, 103_000 + pid, "cc1plus", "", GIB // 2, 0, 0) for pid in range(50, 55)]
    print_recording([moment(0, leak[0]), moment(1, leak[1], *brief), moment(2, leak[2])])
    shown = capsys.readouterr().out
    assert [row.split()[0] for row in shown.split("GREW")[1].splitlines()[2:3]] == ["leak[7]"]
    assert shown.endswith(
        "In only one sample: cc1plus[50] (512.0 MiB), cc1plus[51] (512.0 MiB),\n"
        "  cc1plus[52] (512.0 MiB) and 2 more.\n"
    )
    assert "3 samples of 6 processes\n" in shown


def test_what_grew_less_than_those_shown_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    """In both forms; a page has more rows."""
    grown = [
        moment(minute, *(Holder(pid, 1, "a", "", (1 + minute) * pid * GIB, 0, 0) for pid in range(1, 26)))
        for minute in range(2)
    ]
    print_recording(grown)
    assert capsys.readouterr().out.endswith("and 15 more that grew less\n")
    assert "And 5 more that grew less." in recording_page(grown)


def test_memory_of_a_cgroup_that_was_short_is_shown_as_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    """In the table and in the page: the host had enough."""
    job = Holder(9, 1, "job", "", GIB, 0, 0)
    samples = [moment(0, job), moment(1, job, available_kib=2048, cgroup="/system.slice/batch.service")]
    print_recording(samples)
    shown = capsys.readouterr().out
    assert [line.split()[0::5] for line in shown.splitlines()[3:7:1] if "11:0" in line] == [
        ["11:07:21", "the"],
        ["11:08:21", "batch.service"],
    ]
    assert shown.startswith("At the lowest, 4.0 GiB were available, at 2026-11-23 11:07:21.\n")
    page = recording_page(samples)
    assert "batch.service" in page
    assert "2.0 MiB" in page


def test_columns_that_would_be_empty_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    """Without swap, pressure information and units."""
    print_recording([moment(minute, Holder(7, 1, "a", "", (1 + minute) * GIB, 0, 0)) for minute in range(2)])
    shown = capsys.readouterr().out
    assert "TIME      AVAILABLE  PROMISED  FIRST TO GO  MEMORY\n" in shown
    assert "GREW     FROM       TO          IN\n" in shown


def test_a_strip_has_no_gaps(capsys: pytest.CaptureFixture[str]) -> None:
    """Where a process was not among the largest, it has the size that it had; before its start, none."""
    holders = [Holder(7, 100_000 + 100 * 120, "late", "", (1 + minute) * GIB, 0, 0) for minute in range(12)]
    other = Holder(8, 1, "other", "", GIB, 0, 0)
    print_recording(
        [
            moment(minute, other, *([holders[minute]] if minute in (3, 4, 9, 11) else []))
            for minute in range(12)
        ]
    )
    [row] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("late[7]")]
    assert row.endswith("s     ▃▄▄▄▄▄▇▇█")


def test_a_single_sample_shows_no_growth(folder: StateFolder, capsys: pytest.CaptureFixture[str]) -> None:
    """In the daemon's first minute, nobody knows what grows."""
    record(folder, 1.0)
    assert run_verb(["history", "--state-dir", folder.path]) == 0
    shown = capsys.readouterr().out
    assert shown.endswith("\nOnly one sample so far.\n")
    assert " to " not in shown.splitlines()[1]


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


def test_values_are_whole_on_a_narrow_screen(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Columns that matter less are left out instead."""
    monkeypatch.setenv("COLUMNS", "60")
    grows = [Holder(1234567, 1, "qemu-system-x86", "", (1 + minute) * GIB, 0, 0) for minute in range(2)]
    print_recording([moment(minute, one, cgroup="/a/batch-1.service") for minute, one in enumerate(grows)])
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 60
    assert "11:07:21" in shown
    assert "FIRST TO GO" in shown
    assert "PROMISED" not in shown
    assert "qemu-system-x86[1234567]  1.0 GiB  2.0 GiB  60 seconds\n" in shown


def test_only_the_time_asked_for_counts(folder: StateFolder, capsys: pytest.CaptureFixture[str]) -> None:
    """Growth is that of this time, too."""
    record(folder, 1, 2, 3)
    assert run_verb(["history", "--state-dir", folder.path, "--since", "90s", "--json"]) == 0
    shown = capsys.readouterr().out
    assert run_verb(["history", "--state-dir", folder.path, "--since", "-90s", "--json"]) == 0  # as for log
    assert len(json.loads(capsys.readouterr().out)) == 2
    samples = json.loads(shown)
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
    assert row.endswith("minutes  ▂▃▄▆▇█")


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
    page.chmod(0o600)
    assert run_verb(["history", "--state-dir", folder.path, "--html", str(page)]) == 0
    assert page.stat().st_mode & 0o777 == 0o600


def test_nothing_recorded_is_an_error_with_the_reasons(tmp_path: Path) -> None:
    """No daemon ran, or its policy says so."""
    with pytest.raises(OomguardError, match="nothing is recorded there") as error:
        run_verb(["history", "--state-dir", str(tmp_path)])
    assert "recorder: off" in (error.value.hint or "")


def test_what_was_recorded_before_a_reboot_is_not_of_minutes_ago(folder: StateFolder) -> None:
    """The folder may outlive it, and then is not damaged either."""
    recorder = Recorder(folder, "another-boot")
    assert recorder.open() == ""
    left = Left(GIB, GIB)
    recorder.record(Sample(time.time(), time.monotonic() - 60, left, 0, None, ()), in_episode=False)
    recorder.close()
    with pytest.raises(OomguardError, match="nothing is recorded there yet"):
        run_verb(["history", "--state-dir", folder.path])


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "nothing is recorded there yet"),
        (bytes(1 << 20), "nothing is recorded there yet"),
        (b"oom1" * 999, "damaged: it has no sample that can be read"),
    ],
    ids=["empty", "new", "damaged"],
)
def test_a_recorder_without_samples_is_an_error(folder: StateFolder, content: bytes, why: str) -> None:
    """Whatever time was asked for."""
    folder.replace(FILE, content)
    for since in ([], ["--since", "1d"]):
        with pytest.raises(OomguardError, match=why):
            run_verb(["history", "--state-dir", folder.path, *since])


@pytest.mark.parametrize("text", ["10", "m", "--5m", "10 m", "1w", "9999999s"])
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
