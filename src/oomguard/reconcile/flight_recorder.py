"""The flight recorder: two rings of samples, in a file of fixed size that only root can read.

Each sample fills a slot of its own, written with one call, with a checksum. A kill in mid-write costs that
sample, and the oldest one, whose slot it was. The file has its full size from the start: a disk that fills
up later cannot stop it.
"""

import json
import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from itertools import takewhile

from oomguard.core.errors import OomguardError
from oomguard.core.sample import Holder, Left, Sample, is_recent
from oomguard.core.text import printable
from oomguard.core.typed import TYPE_CHECKING
from oomguard.reconcile.state_folder import StateFolder, find_state_folder

if TYPE_CHECKING:
    from typing import Any

FILE = "recorder"
SLOT_BYTES = 1024
SLOTS = 512
"""Of each of two rings: of passes, a minute apart, and of episodes, a second apart. So a few minutes of
pressure do not overwrite what was recorded of a day."""

_SIZE = 2 * SLOTS * SLOT_BYTES
_CHUNK = 64 * SLOT_BYTES
_TEXT_LIMIT, _CGROUP_LIMIT = 200, 512
"""Characters of a text, and of a cgroup: Kubernetes in a container has paths of 320."""
_HEADER = struct.Struct("<4sQHI")
"""The format, the number of the sample, the bytes that follow, and the CRC-32 of number and bytes."""

_FORMAT = b"oom1"


class Recorder:
    """The recorder of the daemon that has this state folder; without a descriptor it records nothing.

    The folder may outlive the boot: samples of another one are left out, because their times and pids mean
    nothing.
    """

    def __init__(self, folder: StateFolder, boot_id: str = "") -> None:
        self._folder = folder
        self._boot_id = boot_id
        self._fd = -1
        self._number = 0
        self._next = [0, 0]
        """By ring, the next slot in it."""

    @property
    def is_open(self) -> bool:
        """Whether samples are recorded."""
        return self._fd >= 0

    def open(self) -> str:
        """Go on after the last sample of the file. Return why nothing can be recorded, "" if it can.

        If it is open, open it again only if its file is no longer the one in the folder.
        """
        if self._fd >= 0 and self._folder.has(FILE, self._fd):
            return ""
        self.close()
        is_new = False
        try:
            self._fd = self._folder.open_file(FILE, os.O_RDWR)
            is_new = os.fstat(self._fd).st_size == 0
            os.ftruncate(self._fd, _SIZE)  # whatever it was before: what decodes still counts
            os.posix_fallocate(self._fd, 0, _SIZE)
            found = self._found()
        except OSError as error:
            self.close()
            if is_new:  # otherwise it may have samples
                with suppress(OSError):
                    self._folder.remove(FILE)
            return os.strerror(error.errno or 0)
        self._number = max((number for number, _ in found), default=0)
        for ring in (0, 1):
            own = [one for one in found if one[1] // SLOTS == ring]
            self._next[ring] = (max(own)[1] + 1) % SLOTS if own else 0
        return ""

    def close(self) -> None:
        """Record nothing more."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def record(self, sample: Sample, *, in_episode: bool) -> None:
        """Write a sample in the place of the oldest of its ring. OSError: it cannot be written."""
        if self._fd < 0:
            return
        self._number += 1
        slot = in_episode * SLOTS + self._next[in_episode]
        os.pwrite(self._fd, encode_slot(self._number, sample, self._boot_id), slot * SLOT_BYTES)
        self._next[in_episode] = (self._next[in_episode] + 1) % SLOTS

    def recent(self, booted: float) -> Iterator[Sample]:
        """Yield the samples of the last ten minutes before a moment of this boot, the newest first.

        One at a time: all of them take 50 ms, and 5 MiB that would stay in the heap of the daemon. OSError:
        they cannot be read.
        """
        slots = sorted(self._found(), reverse=True) if self.is_open else []
        found = (one for _, slot in slots if (one := self._sample_in(slot)) is not None)
        return takewhile(lambda one: is_recent(one, booted), found)

    def _sample_in(self, slot: int) -> Sample | None:
        raw = os.pread(self._fd, SLOT_BYTES, slot * SLOT_BYTES)
        return next((_sample(packed, self._boot_id) for *_, packed in _slots([raw])), None)

    def _found(self) -> list[tuple[int, int]]:
        """Return of each slot that is whole the number of its sample, and its place."""
        return [(number, slot) for number, slot, _ in _slots(self._chunks())]

    def _chunks(self) -> Iterator[bytes]:
        """Yield the file in parts: all of it at once, 1 MiB, would stay in the heap of the daemon."""
        return (os.pread(self._fd, _CHUNK, start) for start in range(0, _SIZE, _CHUNK))


def read_samples(state_dir: str, boot_id: str = "") -> list[Sample] | None:
    """Return what the daemon with this state folder recorded, oldest first; None if it has no recorder.

    Only of this boot, unless its id is "". PermissionError: only root can read it. OomguardError: it is not a
    file, it is damaged, or others may have written it.
    """
    folder = find_state_folder(state_dir)
    if folder is None:
        return None
    with closing(folder):
        raw = folder.read(FILE)
        if raw is None:
            return None
        if not folder.is_ours:
            raise OomguardError(
                f"{printable(state_dir)}/{FILE}: ignored: others may write to its folder",
                hint="run this as the owner of the folder, after chmod 755 if others can write to it",
            )
    if not any(_slots([raw])) and raw.strip(b"\0"):  # a new file is all zeros
        raise OomguardError(
            f"{printable(state_dir)}/{FILE}: damaged: it has no sample that can be read",
            hint="new samples of the daemon take its place",
        )
    return decode_samples(raw, boot_id)


def encode_slot(number: int, sample: Sample, boot_id: str = "") -> bytes:
    """Return a slot with a sample; long texts are cut, and the last holders left out, so that it fits."""
    holders = tuple(
        [
            one._replace(
                comm=one.comm[:_TEXT_LIMIT], unit=one.unit[:_TEXT_LIMIT], rule=one.rule[:_TEXT_LIMIT]
            )
            for one in sample.holders
        ]
    )
    short = sample._replace(cgroup=sample.cgroup[:_CGROUP_LIMIT])
    while True:
        fields = (*short._replace(holders=holders), zlib.crc32(boot_id.encode()))
        # As UTF-8: escaped, characters take three times as much.
        document = json.dumps(fields, ensure_ascii=False, separators=(",", ":"))
        packed = zlib.compress(document.encode(), 1)
        if len(packed) <= SLOT_BYTES - _HEADER.size:
            return _HEADER.pack(_FORMAT, number, len(packed), _checksum(number, packed)) + packed
        if not holders:
            short = short._replace(cgroup=short.cgroup[: len(short.cgroup) * 3 // 4])
        holders = holders[: len(holders) * 3 // 4]


def decode_samples(raw: bytes, boot_id: str = "") -> list[Sample]:
    """Return the samples of a file, oldest first. What is damaged, or not a sample, is left out."""
    slots = sorted(_slots([raw]))
    return [one for *_, packed in slots if (one := _sample(packed, boot_id)) is not None]


def _slots(chunks: Iterable[bytes]) -> Iterator[tuple[int, int, bytes]]:
    """Yield of each slot that is whole the number of its sample, its place, and its content."""
    slot = 0
    for chunk in chunks:
        for begin in range(0, len(chunk) - _HEADER.size + 1, SLOT_BYTES):
            magic, number, length, checksum = _HEADER.unpack_from(chunk, begin)
            content = begin + _HEADER.size
            packed = chunk[content : content + min(length, SLOT_BYTES - _HEADER.size)]
            if magic == _FORMAT and checksum == _checksum(number, packed):
                yield number, slot, packed
            slot += 1


def _checksum(number: int, packed: bytes) -> int:
    return zlib.crc32(packed, number & 0xFFFFFFFF)


def _sample(packed: bytes, boot_id: str) -> Sample | None:
    """Return a sample, None if it is damaged, or known to be of another boot."""
    try:
        document: list[Any] = json.loads(zlib.decompressobj().decompress(packed, 1 << 16))
        at, booted, left, committed_kib, stalled_percent, holders, *others = document
        if boot_id and others[2:] not in ([], [0], [zlib.crc32(boot_id.encode())]):
            return None
        return Sample(
            at,
            booted,
            Left(*left),
            committed_kib,
            stalled_percent,
            tuple([Holder(*holder) for holder in holders]),
            *others[:2],
        )
    except (zlib.error, ValueError, TypeError, RecursionError):
        return None
