"""The flight recorder: a ring of samples, in a file of fixed size that only root can read.

Each sample fills a slot of its own, written with one call, with a checksum. A kill in mid-write costs that
sample, and the oldest one, whose slot it was. The file has its full size from the start: a disk that fills
up later cannot stop it.
"""

import json
import os
import struct
import zlib
from typing import TYPE_CHECKING, Any

from oomguard.core.sample import Holder, Left, Sample
from oomguard.reconcile.state_folder import find_state_folder

if TYPE_CHECKING:
    from oomguard.reconcile.state_folder import StateFolder

FILE = "recorder"
SLOT_BYTES = 1024
SLOTS = 1024
"""A sample a minute fills the file in 17 hours; a sample a second, as under pressure, in 17 minutes."""

_SIZE = SLOT_BYTES * SLOTS
_HEADER = struct.Struct("<4sQHI")
"""The format, the number of the sample, the bytes that follow, and the CRC-32 of number and bytes."""

_FORMAT = b"oom1"


class Recorder:
    """The recorder of the daemon that has this state folder; without a descriptor it records nothing."""

    def __init__(self, folder: "StateFolder") -> None:
        self._folder = folder
        self._fd = -1
        self._next = 1

    def open(self) -> str:
        """Go on after the last sample of the file. Return why nothing can be recorded, "" if it can."""
        if self._fd >= 0:
            return ""
        try:
            raw = self._folder.read(FILE)
            if raw is None or len(raw) != _SIZE:
                self._folder.remove(FILE)
                raw = b""
            self._fd = self._folder.open_file(FILE)
            os.posix_fallocate(self._fd, 0, _SIZE)
        except OSError as error:
            self.close()
            self._folder.remove(FILE)
            return os.strerror(error.errno or 0)
        self._next = max((number for number, _ in _slots(raw)), default=0) + 1
        return ""

    def close(self) -> None:
        """Record nothing more."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def record(self, sample: Sample) -> None:
        """Write a sample in the place of the oldest. OSError: it cannot be written."""
        if self._fd < 0:
            return
        slot = encode_slot(self._next, sample)
        os.pwrite(self._fd, slot, self._next % SLOTS * SLOT_BYTES)
        self._next += 1

    def samples(self) -> list[Sample]:
        """Return what is recorded, oldest first. OSError: it cannot be read."""
        return [] if self._fd < 0 else decode_samples(os.pread(self._fd, _SIZE, 0))


def read_samples(state_dir: str) -> list[Sample] | None:
    """Return what the daemon with this state folder recorded, oldest first; None if it has no recorder.

    PermissionError: only root can read it. OomguardError: it is not a file.
    """
    folder = find_state_folder(state_dir)
    if folder is None:
        return None
    try:
        raw = folder.read(FILE) if folder.is_ours else None
    finally:
        folder.close()
    return None if raw is None else decode_samples(raw)


def encode_slot(number: int, sample: Sample) -> bytes:
    """Return a slot with a sample; the last holders are left out if it does not fit."""
    holders = sample.holders
    while True:
        document = json.dumps(sample._replace(holders=holders), separators=(",", ":"))
        packed = zlib.compress(document.encode(), 1)
        if len(packed) <= SLOT_BYTES - _HEADER.size or not holders:
            return _HEADER.pack(_FORMAT, number, len(packed), _checksum(number, packed)) + packed
        holders = holders[: len(holders) * 3 // 4]


def decode_samples(raw: bytes) -> list[Sample]:
    """Return the samples of a file, oldest first. What is damaged, or not a sample, is left out."""
    return [sample for _, packed in sorted(_slots(raw)) if (sample := _sample(packed)) is not None]


def _slots(raw: bytes) -> "list[tuple[int, bytes]]":
    """Return the number and the content of each slot that is whole."""
    found = []
    for start in range(0, len(raw) - _HEADER.size, SLOT_BYTES):
        magic, number, length, checksum = _HEADER.unpack_from(raw, start)
        begin = start + _HEADER.size
        packed = raw[begin : begin + min(length, SLOT_BYTES - _HEADER.size)]
        if magic == _FORMAT and checksum == _checksum(number, packed):
            found.append((number, packed))
    return found


def _checksum(number: int, packed: bytes) -> int:
    return zlib.crc32(packed, number & 0xFFFFFFFF)


def _sample(packed: bytes) -> Sample | None:
    try:
        document: list[Any] = json.loads(zlib.decompressobj().decompress(packed, 1 << 16))
        at, booted, left, committed_kib, stalled_percent, holders, cgroup = document
        return Sample(
            at,
            booted,
            Left(*left),
            committed_kib,
            stalled_percent,
            tuple(Holder(*holder) for holder in holders),
            cgroup,
        )
    except (zlib.error, ValueError, TypeError, RecursionError):
        return None
