"""The compiled policy, kept from one start to the next: to read YAML takes most of a start.

The key has everything that the policy was made from: this program, the metadata of the policy files, of the
folders they are in, and of the files that say who a user is. What is damaged, has another key, or may
have been written by others is as good as nothing.
"""

import json
import os
import zlib
from typing import TYPE_CHECKING

from oomguard import __version__
from oomguard.daemon.policy_watch import metadata
from oomguard.reconcile.lasting_file import LastingFile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from oomguard.daemon.policy_watch import PolicyWatch

_SIZE_LIMIT = 1024 * 1024
"""Packed bytes that are kept: some 100,000 rules."""

_CHUNK = 65536

_FILE = "compiled-policy"
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_HOST_FILES = ("/etc/passwd", "/etc/subuid", "/etc/login.defs", "/usr/etc/login.defs")
_TICK_NS = 100_000_000
"""Longer than a tick of any file system's clock: a file that changes twice within one looks the same."""


class PolicyCache:
    """The cache of the daemon that has this state folder."""

    def __init__(self, state_dir: str) -> None:
        self._file = LastingFile(state_dir, _FILE)
        self.path = self._file.path
        # Once: what a newer program reads for this daemon is not for the daemon of that program.
        self._program = json.dumps([(path, metadata(path)) for path in _modules()])

    def key(self, watch: "PolicyWatch", now_ns: int) -> str:
        """Return all that a policy read from `now_ns` on is made from; "" if some has only just changed."""
        layers = [layer.path for layer in watch.layers]
        paths = (*layers, *_HOST_FILES)
        files = [*watch.fingerprint(), *((path, metadata(path)) for path in paths)]
        if any(seen and max(seen.modified_ns, seen.changed_ns) > now_ns - _TICK_NS for _, seen in files):
            return ""
        return json.dumps([__version__, os.geteuid(), files, _owners(layers), self._program])

    def load(self, key: str) -> "Iterator[bytes]":
        """Yield what was stored under `key`, in pieces; nothing if there is none.

        OSError, OomguardError: it cannot be read; ValueError: it is damaged, or may be another user's.
        """
        packed = self._file.read()
        if packed is not None:
            yield from _unpacked(packed, key.encode() + b"\n")

    def store(self, copy: "Copy") -> str:
        """Keep what the reader of the policy wrote; return why that failed, "" if it did not."""
        packed = copy.finish()
        return self._file.replace(packed) if len(packed) <= _SIZE_LIMIT else ""


class Copy:
    """What the reader of the policy writes, packed as it comes: it compresses to a tenth.

    `key` is what the policy is made from, "" if that may be something else by the next time.
    """

    def __init__(self, key: str) -> None:
        self.key = key
        self._packer = zlib.compressobj(level=1)
        self._packed = [self._packer.compress(key.encode() + b"\n")]

    def add(self, chunk: bytes) -> None:
        """Take more of it."""
        self._packed.append(self._packer.compress(chunk))

    def finish(self) -> bytes:
        """Return all of it, with the checksum of zlib at its end."""
        self._packed.append(self._packer.flush())
        return b"".join(self._packed)


def _unpacked(packed: bytes, head: bytes) -> "Iterator[bytes]":
    """Yield what is packed behind `head`; nothing if another head is in front. ValueError: it is damaged."""
    unpacker = zlib.decompressobj()
    try:
        chunk = unpacker.decompress(packed, len(head))
        if len(chunk) == len(head) and chunk != head:
            return
        while not unpacker.eof:
            chunk = unpacker.decompress(unpacker.unconsumed_tail, _CHUNK)
            if not chunk and not unpacker.eof:
                raise ValueError("it is damaged")  # it was cut
            yield chunk
    except zlib.error as error:
        raise ValueError("it is damaged") from error


def _owners(paths: list[str]) -> list[tuple[str, int, int]]:
    """Return who owns each folder above a policy, and who may write to it: the reader warns of some."""
    above: dict[str, None] = {}
    for folder in (folder for path in paths for folder in (path, os.path.realpath(path))):
        while folder != (folder := os.path.dirname(folder)):
            above[folder] = None
    return [(folder, seen.mode, seen.uid) for folder in above if (seen := metadata(folder))]


def _modules() -> list[str]:
    """Return the modules that read a policy: an upgrade may keep the version, as one of a checkout does."""
    folders = (f"{_PACKAGE}/policy", f"{_PACKAGE}/core")
    return [
        f"{folder}/{name}"
        for folder in folders
        for name in sorted(os.listdir(folder))
        if name.endswith(".py")
    ]
