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
        opened.record(sample(number), in_episode=False)
    expected = [sample(number) for number in range(3)]
    assert opened.samples() == expected
    assert read_samples(folder.path) == expected


def test_the_oldest_of_its_ring_gives_way(opened: Recorder, folder: StateFolder) -> None:
    """The file never grows, nobody else can read it, and episodes leave what passes recorded."""
    for number in range(SLOTS + 5):
        opened.record(sample(number, holders=1), in_episode=False)
    for number in range(1000, 1000 + 2 * SLOTS):
        opened.record(sample(number, holders=1), in_episode=True)
    recorded = [*range(5, SLOTS + 5), *range(1000 + SLOTS, 1000 + 2 * SLOTS)]
    assert [one.booted for one in opened.samples()] == recorded
    info = os.stat(f"{folder.path}/{FILE}")
    assert (info.st_size, info.st_mode & 0o777) == (2 * SLOT_BYTES * SLOTS, 0o600)


def test_a_restart_goes_on_where_it_was(opened: Recorder, folder: StateFolder) -> None:
    """After the last sample of each ring, which need not be the last in the file."""
    for number in range(SLOTS + 2):
        opened.record(sample(number, holders=1), in_episode=False)
    opened.record(sample(SLOTS + 2, holders=1), in_episode=True)
    opened.close()
    again = Recorder(folder)
    assert again.open() == ""
    again.record(sample(SLOTS + 3, holders=1), in_episode=False)
    again.record(sample(SLOTS + 4, holders=1), in_episode=True)
    assert [one.booted for one in again.samples()] == list(range(3, SLOTS + 5))
    again.close()


@pytest.mark.parametrize("written", [0, 1, 10, 17, 18, 100])
def test_a_kill_in_mid_write_costs_one_sample(opened: Recorder, folder: StateFolder, written: int) -> None:
    """The one that is being written; those before it are whole."""
    for number in range(4):
        opened.record(sample(number), in_episode=False)
    slot = recorder.encode_slot(5, sample(4))
    with open(f"{folder.path}/{FILE}", "r+b") as file:
        file.seek(5 * SLOT_BYTES)
        file.write(slot[:written])
    assert opened.samples() == [sample(number) for number in range(4)]


def test_texts_of_any_length_fit(opened: Recorder) -> None:
    """They are cut, and those that would be killed last are left out, if they must."""
    long = printable(os.urandom(15) + b"\x1b\xff")
    texts = sample(1, comm=long, unit=os.urandom(2000).hex())._replace(cgroup=os.urandom(2000).hex())
    for _ in range(2 * SLOTS):
        opened.record(texts, in_episode=True)
    found = opened.samples()[-1]
    assert found._replace(holders=()) == texts._replace(holders=(), cgroup=texts.cgroup[:200])
    assert len(found.holders) >= 1
    assert [one.pid for one in found.holders] == list(range(len(found.holders)))
    assert len(opened.samples()) == SLOTS


@pytest.mark.parametrize("size", [0, 1, 14, 5000, 2 * SLOTS * SLOT_BYTES + 77])
def test_a_file_of_another_size_keeps_what_can_be_read(folder: StateFolder, size: int) -> None:
    """As of another version, or cut."""
    whole = recorder.encode_slot(1, sample(1)).ljust(SLOT_BYTES, b"\0")
    folder.replace(FILE, whole.ljust(size, b"x")[:size])
    made = Recorder(folder)
    assert made.open() == ""
    kept = [sample(1)] if size >= 5000 else []
    assert made.samples() == kept
    made.record(sample(2), in_episode=False)
    assert made.samples() == [*kept, sample(2)]
    assert os.stat(f"{folder.path}/{FILE}").st_size == 2 * SLOTS * SLOT_BYTES
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
    made.record(sample(1), in_episode=False)
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
