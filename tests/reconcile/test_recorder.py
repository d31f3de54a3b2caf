"""The flight recorder: a ring that outlives kills, damage and a full disk."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some

from oomguard.core.sample import HOLDERS, Holder, Left, Sample
from oomguard.core.text import printable
from oomguard.reconcile import recorder
from oomguard.reconcile.recorder import FILE, SLOT_BYTES, SLOTS, Recorder, decode_samples, read_samples
from oomguard.reconcile.state_folder import StateFolder


def sample(number: int, holders: int = HOLDERS, *, comm: str = "chrome", unit: str = "app.scope") -> Sample:
    """Return the sample of a moment."""
    return Sample(
        1_800_000_000.25 + number,
        float(number),
        Left(200_000 + number, 16_000_000, 1, 2),
        9_000_000,
        12.5,
        tuple(
            Holder(pid, 12345 + pid, comm, unit, 2_000_000, 5, 300, "name=chrome") for pid in range(holders)
        ),
        "/app.slice",
    )


@pytest.fixture
def opened(folder: StateFolder) -> Iterator[Recorder]:
    """Return a recorder in it."""
    made = Recorder(folder)
    assert made.open() == ""
    yield made
    made.close()


def test_what_is_recorded_is_read_back(opened: Recorder, folder: StateFolder) -> None:
    """Oldest first, by the daemon and by root's verbs."""
    for number in range(3):
        opened.record(sample(number))
    expected = [sample(number) for number in range(3)]
    assert opened.samples() == expected
    assert read_samples(folder.path) == expected


def test_the_oldest_gives_way(opened: Recorder, folder: StateFolder) -> None:
    """The file never grows, and nobody else can read it."""
    for number in range(SLOTS + 5):
        opened.record(sample(number, holders=1))
    assert [one.booted for one in opened.samples()] == list(range(5, SLOTS + 5))
    info = os.stat(f"{folder.path}/{FILE}")
    assert (info.st_size, info.st_mode & 0o777) == (SLOT_BYTES * SLOTS, 0o600)


def test_a_restart_goes_on_where_it_was(opened: Recorder, folder: StateFolder) -> None:
    """After the last sample, which need not be the last in the file."""
    for number in range(SLOTS + 2):
        opened.record(sample(number, holders=1))
    opened.close()
    again = Recorder(folder)
    assert again.open() == ""
    again.record(sample(SLOTS + 2, holders=1))
    assert [one.booted for one in again.samples()] == list(range(3, SLOTS + 3))
    again.close()


@pytest.mark.parametrize("written", [0, 1, 10, 17, 18, 100])
def test_a_kill_in_mid_write_costs_one_sample(opened: Recorder, folder: StateFolder, written: int) -> None:
    """The one that is being written; those before it are whole."""
    for number in range(4):
        opened.record(sample(number))
    slot = recorder.encode_slot(5, sample(4))
    with open(f"{folder.path}/{FILE}", "r+b") as file:
        file.seek(5 * SLOT_BYTES)
        file.write(slot[:written])
    assert opened.samples() == [sample(number) for number in range(4)]


def test_names_of_any_length_fit(opened: Recorder) -> None:
    """With fewer processes, if they must: those that would be killed last are left out."""
    long = printable(os.urandom(15) + b"\x1b\xff")
    opened.record(sample(1, comm=long, unit=os.urandom(32).hex()))
    [found] = opened.samples()
    assert found._replace(holders=()) == sample(1)._replace(holders=())
    assert 5 <= len(found.holders) <= HOLDERS
    assert [one.pid for one in found.holders] == list(range(len(found.holders)))


def test_a_file_of_another_size_is_begun_anew(folder: StateFolder) -> None:
    """As of another version."""
    folder.replace(FILE, b"something else")
    made = Recorder(folder)
    assert made.open() == ""
    assert made.samples() == []
    made.record(sample(1))
    assert made.samples() == [sample(1)]
    made.close()


def test_what_is_not_recorded_cannot_be_read(tmp_path: Path, folder: StateFolder) -> None:
    """Without a folder or a file there is nothing; in a folder that others may write to, nothing counts."""
    assert read_samples(str(tmp_path / "none")) is None
    assert read_samples(folder.path) is None
    folder.replace(FILE, b"")
    assert read_samples(folder.path) == []
    os.chmod(folder.path, 0o777)
    assert read_samples(folder.path) is None


def test_without_space_nothing_is_recorded_and_nothing_left(
    folder: StateFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reason is for a person. The daemon goes on."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    made = Recorder(folder)
    assert made.open() == "No space left on device"
    made.record(sample(1))
    assert made.samples() == []
    assert not os.path.exists(f"{folder.path}/{FILE}")


@given(some.integers(0, 3 * SLOT_BYTES - 1), some.binary(min_size=1, max_size=64))
def test_damage_hides_at_most_the_samples_it_is_in(at: int, damage: bytes) -> None:
    """And nothing that was never recorded appears."""
    whole = b"".join(
        recorder.encode_slot(number, sample(number)).ljust(SLOT_BYTES, b"\0") for number in range(3)
    )
    raw = bytearray(whole)
    raw[at : at + len(damage)] = damage
    found = decode_samples(bytes(raw[: len(whole)]))
    hit = {place // SLOT_BYTES for place in (at, at + len(damage) - 1)}
    assert {one.booted for one in found} >= {float(number) for number in range(3) if number not in hit}
    assert all(one == sample(int(one.booted)) for one in found)
