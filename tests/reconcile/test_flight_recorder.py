"""The flight recorder: a ring that outlives kills, damage and a full disk."""

import base64
import errno
import json
import os
import signal
import struct
import tracemalloc
import uuid
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from mounts import disk, fill
from oomguard.core.errors import OomguardError
from oomguard.core.sample import HOLDERS, Holder, Left, Sample, growth
from oomguard.core.text import printable
from oomguard.oom.report import Report
from oomguard.reconcile import flight_recorder
from oomguard.reconcile.flight_recorder import FILE, SLOT_BYTES, SLOTS, Recorder, decode_samples, read_samples
from oomguard.reconcile.state_folder import StateFolder, open_state_folder
from oomguard.report.postmortem_before import is_of_same


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
        86400.5,
    )


def recorded(folder: StateFolder) -> list[Sample]:
    """Return all that can be read."""
    raw = folder.read(FILE)
    assert raw is not None
    return decode_samples(raw)


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
    assert [*opened.recent(3)] == expected[::-1]
    assert read_samples(folder.path) == expected


def test_only_recent_samples_are_decoded_for_a_warning(
    opened: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them take 50 ms, in which no event is handled. Of both rings, the newest first."""
    for number in range(2000):
        opened.record(sample(number, holders=1), in_episode=number % 2 == 0)
    decode, decoded = flight_recorder._sample, 0

    def count(packed: bytes, boot_id: str) -> Sample | None:
        nonlocal decoded
        decoded += 1
        return decode(packed, boot_id)

    monkeypatch.setattr(flight_recorder, "_sample", count)
    assert [one.booted for one in opened.recent(2000)] == list(range(1999, 1399, -1))
    assert decoded == 601


def test_a_warning_takes_little_memory(opened: Recorder) -> None:
    """Memory is short then, and what the heap has grown by stays: all samples at once take 5 MiB."""
    for number in range(2 * SLOTS):
        opened.record(sample(number), in_episode=number % 2 == 0)
    growth(opened.recent(2 * SLOTS))
    tracemalloc.start()
    try:
        assert growth(opened.recent(2 * SLOTS))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 400 * 1024


def test_the_oldest_of_its_ring_gives_way(opened: Recorder, folder: StateFolder) -> None:
    """The file never grows, nobody else can read it, and episodes leave what passes recorded."""
    for number in range(SLOTS + 5):
        opened.record(sample(number, holders=1), in_episode=False)
    for number in range(1000, 1000 + 2 * SLOTS):
        opened.record(sample(number, holders=1), in_episode=True)
    expected = [*range(5, SLOTS + 5), *range(1000 + SLOTS, 1000 + 2 * SLOTS)]
    assert [one.booted for one in recorded(folder)] == expected
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
    assert [one.booted for one in recorded(folder)] == list(range(3, SLOTS + 5))
    again.close()


@pytest.mark.parametrize("call", range(1, 12))
@pytest.mark.parametrize("part", [0, 0.1, 0.9, 1])
def test_a_kill_at_any_write_costs_one_sample(folder: StateFolder, call: int, part: float) -> None:
    """The one that is being written, and the oldest one, whose place it has; whoever comes next goes on."""
    if (child := os.fork()) == 0:
        flight_recorder.SLOTS = 4
        left = iter(range(call - 1, -1, -1))
        os.ftruncate = dying(left, part, os.ftruncate, lambda fd, size: (fd, int(size * part)))
        os.posix_fallocate = dying(left, part, os.posix_fallocate, lambda *words: words)
        os.pwrite = dying(left, part, os.pwrite, lambda fd, raw, at: (fd, raw[: int(len(raw) * part)], at))
        made = Recorder(folder)
        made.open()
        for number in range(9):
            made.record(sample(number), in_episode=False)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    again = Recorder(folder)
    assert again.open() == ""
    first = call - 6 if part else call - 7  # the first two calls make the file
    last = call - 3 if part == 1 else call - 4
    assert recorded(folder) == [sample(number) for number in range(max(first, 0), last + 1)]
    again.record(sample(99), in_episode=False)
    assert recorded(folder)[-1] == sample(99)
    again.close()


def dying(left: Iterator[int], part: float, real: Callable[..., object], cut: Callable[..., Any]) -> Any:
    """Return a call that does only a part of its work when none are left, and then ends the process."""

    def instead(*words: Any) -> None:
        if next(left):
            real(*words)
            return
        if part:
            real(*cut(*words))
        os.kill(os.getpid(), signal.SIGKILL)

    return instead


def test_texts_of_any_length_fit(opened: Recorder, folder: StateFolder) -> None:
    """They are cut, and those that would be killed last are left out, if they must."""
    long = printable(os.urandom(15) + b"\x1b\xff")
    texts = sample(1, comm=long, unit=os.urandom(2000).hex())._replace(cgroup=os.urandom(2000).hex())
    for _ in range(2 * SLOTS):
        opened.record(texts, in_episode=True)
    found = recorded(folder)[-1]
    assert found._replace(holders=()) == texts._replace(holders=(), cgroup=texts.cgroup[:512])
    assert len(found.holders) >= 1
    assert [one.pid for one in found.holders] == list(range(len(found.holders)))
    assert len(recorded(folder)) == SLOTS


_INCOMPRESSIBLE = (  # found by trying: escaped as in JSON, these characters compress worst
    "8JSUhvCXsZjrkoXwpbyt5IiQ1L/wn6ec56mn8K2zhvCmnbDwppmI8JG7rvCwnLvnurrjj5/wlrma8KKUhvCnrrPhprvwrpOx"
    "8KiolPOghZLwpISY8KWkquWWkfChkqblj5jwrK+W8KajoueMk/CkpqDjgLfjnY3wrqy08KG8tvCjurzwkYiW8JCBm/Crn7jw"
    "oLm38JihofCXiqPwpaeq8JOAoPCipKXwsYee7Jm08LCUkvCYmrnwrJeh8KKEj/CqjqzworSZ8K+ju/CwjI7wkZaQ8J+QgPCn"
    "jIvwrL2A8KSovPCrl7vwkJCx8KqSki/wnYCD44qU8KK6lvCoiK3wlr2e8LCtkfCnn6vwlqaX8Ku8ifCrqLfwoaCw8JKCjvCg"
    "noHwqqOv8KGfovCShqnwpLKZ8JCpqfCmkYnwrZub8K2MnPCYj5/wrKaB86CGv/CqqY7wn4er8KmyhPCot47wl7CF8KOKhfCX"
    "op7wqa+X8J6Kl/CmroDwpqeG8KCmmvChgpPwl5eC8Ki6qPCRq5zwlqm+8LC5vfCpnJHwprqm8LCClfCnkqTwqre08KG2lfCt"
    "qpvwqp2i8KuUn/CQh7rwqbWq8KiYmPCnrIHwqKCU8JeNqfCtk7LwqIa48JeCuvCgmIbwraC48LC3jy/zoIWe8KmGt/Covp3w"
    "sJmE8KGXp/CrpZnwo7Oe8KOQvvCugbLwm4Oz8KmOs/Cvp7XwkLqx8JisuPCjg6jwl4qc8KqnnfCulrLwrIGq8K6nlPCkl63w"
    "sJCp8LGKovCqhLTwnZKq8KaoofCstafwraa28KyMhfCTh5Xwq4e98KOWufCruY/wq5iT8LChsfCmpJXwmr+w8KejovCmoafw"
    "p7eM8KmZrvCdqZvwoIam8JiJqPClmavwoLKm8KmBlPCxgYvwpLeR8KKsqvCql7fwpIG58J64i/CqgrPwoIqI8KeZmPCklJDw"
    "mKK08JGCoPCfmZzwqIeb8KW9rfCfg4Y="
)


def test_the_name_of_a_cgroup_that_compresses_badly_fits(opened: Recorder, folder: StateFolder) -> None:
    """Root of a container chooses it, and must not stop the daemon of the host."""
    cgroup = printable(f"/pod/{base64.b64decode(_INCOMPRESSIBLE).decode()}")
    texts = sample(1)._replace(cgroup=cgroup)
    opened.record(texts, in_episode=True)
    assert recorded(folder)[-1]._replace(holders=()) == texts._replace(holders=())
    longer = f"{cgroup}/{cgroup[::-1]}"
    opened.record(sample(2)._replace(cgroup=longer), in_episode=True)
    assert longer.startswith(recorded(folder)[-1].cgroup)
    assert len(recorded(folder)[-1].cgroup) > 100


def test_the_cgroup_of_a_pod_in_a_container_is_kept_whole(opened: Recorder, folder: StateFolder) -> None:
    """A report of its kill has all of it, and finds its samples by that."""
    pod = f"kubelet-kubepods-burstable-pod{uuid.uuid4()}".replace("-", "_")
    cgroup = (
        f"/system.slice/docker-{os.urandom(32).hex()}.scope/kubelet.slice/kubelet-kubepods.slice"
        f"/kubelet-kubepods-burstable.slice/{pod}.slice/cri-containerd-{os.urandom(32).hex()}.scope"
    )
    opened.record(sample(1)._replace(cgroup=cgroup), in_episode=True)
    (found,) = recorded(folder)
    assert found.cgroup == cgroup
    assert len(found.holders) >= 5
    assert is_of_same(Report(constraint="memcg", oom_memcg=cgroup), found)


@pytest.mark.parametrize("size", [0, 1, 14, 5000, 2 * SLOTS * SLOT_BYTES + 77])
def test_a_file_of_another_size_keeps_what_can_be_read(folder: StateFolder, size: int) -> None:
    """As of another version, or cut."""
    whole = flight_recorder.encode_slot(1, sample(1)).ljust(SLOT_BYTES, b"\0")
    folder.replace(FILE, whole.ljust(size, b"x")[:size])
    made = Recorder(folder)
    assert made.open() == ""
    kept = [sample(1)] if size >= 5000 else []
    assert recorded(folder) == kept
    made.record(sample(2), in_episode=False)
    assert recorded(folder) == [*kept, sample(2)]
    assert os.stat(f"{folder.path}/{FILE}").st_size == 2 * SLOTS * SLOT_BYTES
    made.close()


def test_samples_of_a_version_that_knew_of_no_suspension_are_read() -> None:
    """An upgrade keeps the recorder."""
    packed = zlib.compress(json.dumps(sample(1)[:-1]).encode())
    header = struct.pack("<4sQHI", b"oom1", 1, len(packed), zlib.crc32(packed, 1))
    assert decode_samples((header + packed).ljust(SLOT_BYTES, b"\0")) == [sample(1)._replace(suspended=0)]


def test_samples_of_another_boot_do_not_count(folder: StateFolder) -> None:
    """Unless one of both is unknown; they stay until new ones take their places."""
    for number, boot in enumerate(("", "a", "b")):
        made = Recorder(folder, boot)
        assert made.open() == ""
        made.record(sample(number), in_episode=False)
        made.close()
    for boot, numbers in (("", [0, 1, 2]), ("a", [0, 1]), ("b", [0, 2]), ("c", [0])):
        expected = [sample(number) for number in numbers]
        assert read_samples(folder.path, boot) == expected
        made = Recorder(folder, boot)
        assert made.open() == ""
        assert [*made.recent(3)] == expected[::-1]
        made.close()


def test_what_is_not_recorded_cannot_be_read(tmp_path: Path, folder: StateFolder) -> None:
    """Without a folder or a file there is nothing; in a folder that others may write to, it is an error."""
    assert read_samples(str(tmp_path / "none")) is None
    assert read_samples(folder.path) is None
    folder.replace(FILE, b"")
    assert read_samples(folder.path) == []
    os.chmod(folder.path, 0o777)
    with pytest.raises(OomguardError, match="recorder: ignored: others may write to its folder"):
        read_samples(folder.path)


@pytest.mark.parametrize("kib", [64, 1000])
def test_without_space_nothing_is_recorded_and_nothing_left(tmp_path: Path, kib: int) -> None:
    """The reason is for a person. The daemon goes on, and the space is there for others."""
    with disk(tmp_path / "full", kib=kib) as place:
        folder = open_state_folder(str(place / "state"))
        before = os.statvfs(place).f_bfree
        made = Recorder(folder)
        assert made.open() == "No space left on device"
        made.record(sample(1), in_episode=False)
        assert [*made.recent(1)] == []
        assert os.listdir(folder.path) == []
        assert os.statvfs(place).f_bfree == before
        folder.close()


@pytest.mark.parametrize("call", ["open", "pread"])
def test_a_recorder_that_cannot_be_opened_keeps_its_samples(
    opened: Recorder, folder: StateFolder, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """Without a descriptor, or for an error of the disk, it may be possible later."""

    def fails(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    opened.record(sample(1), in_episode=False)
    opened.close()
    with monkeypatch.context() as broken:
        broken.setattr(os, call, fails)
        assert opened.open() == "Too many open files"
    assert opened.open() == ""
    assert recorded(folder) == [sample(1)]


def test_a_disk_that_fills_up_later_stops_nothing(tmp_path: Path) -> None:
    """All of the file is allocated from the start."""
    with disk(tmp_path / "full", kib=1200) as place:
        folder = open_state_folder(str(place / "state"))
        made = Recorder(folder)
        assert made.open() == ""
        fill(place)
        for number in range(SLOTS + 3):
            made.record(sample(number, holders=1), in_episode=number % 2 == 0)
        assert len(recorded(folder)) == SLOTS + 3
        made.close()
        folder.close()


@given(some.integers(0, 3 * SLOT_BYTES - 1), some.binary(min_size=1, max_size=64))
def test_damage_hides_at_most_the_samples_it_is_in(at: int, damage: bytes) -> None:
    """And nothing that was never recorded appears."""
    whole = b"".join(
        flight_recorder.encode_slot(number, sample(number)).ljust(SLOT_BYTES, b"\0") for number in range(3)
    )
    raw = bytearray(whole)
    raw[at : at + len(damage)] = damage
    found = decode_samples(bytes(raw[: len(whole)]))
    hit = {place // SLOT_BYTES for place in (at, at + len(damage) - 1)}
    assert {one.booted for one in found} >= {float(number) for number in range(3) if number not in hit}
    assert all(one == sample(int(one.booted)) for one in found)
