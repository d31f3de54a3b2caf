"""The compiled policy, kept by the daemon for its next start and for the verbs: reading YAML takes longest.

The key covers everything that the policy was made from: this program, the metadata of the policy files and
their folders, and of the files that define users. A file that is damaged, has another key, or may have been
written by others is ignored.
"""

import json
import os
import stat
import zlib
from collections.abc import Iterable, Iterator, Sequence

from oomguard import __version__
from oomguard.core.host import Host
from oomguard.core.policy import USER_FILES, Layer, Policy, is_drop_in, is_mask
from oomguard.core.serialize import Decoder
from oomguard.core.typed import TYPE_CHECKING, NamedTuple
from oomguard.reconcile.state_folder import LastingFile

if TYPE_CHECKING:
    from typing import Any

_SIZE_LIMIT = 1024 * 1024
"""Maximum packed size: some 100,000 rules."""

_CHUNK = 65536

_FILE = "compiled-policy"
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_TICK_NS = 100_000_000
"""Longer than a clock tick of any file system: a file that changes twice within one tick looks the same."""


class Metadata(NamedTuple):
    """What shows that a file was edited (stat(2)); times are in nanoseconds since the epoch."""

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int
    mode: int
    uid: int


MASK = Metadata(0, 0, 0, 0, 0, stat.S_IFCHR, 0)
"""Any /dev/null: with PrivateDevices= each start of the service has a new one."""


class PolicyCache:
    """The cache of the daemon that has this state folder."""

    def __init__(self, state_dir: str) -> None:
        self._file = LastingFile(state_dir, _FILE)
        self.path = self._file.path
        # Once: what a newer program reads for this daemon is not for this daemon's program.
        self._program = json.dumps([(path, metadata(path)) for path in _modules()])
        self._unstored: bytes | None = None

    def key(self, layers: Sequence[Layer], now_ns: int) -> str:
        """Return the key of a policy read from `now_ns` on; "" if some of its input has only just changed."""
        paths = [layer.path for layer in layers]
        there = [layer._replace(path=os.path.abspath(layer.path)) for layer in layers]
        folders = [layer.path for layer in there]
        inputs = (*policy_files(there), *folders, *USER_FILES)
        files = [(path, metadata(path)) for path in inputs]
        if any(seen and max(seen.modified_ns, seen.changed_ns) > now_ns - _TICK_NS for _, seen in files):
            return ""
        # Include the paths as they were given, because messages contain them.
        return json.dumps([__version__, os.geteuid(), files, _owners(folders), self._program, paths])

    def load(self, key: str, host: Host | None) -> Policy | None:
        """Return the policy stored under `key`, None if there is none that fits this host.

        OSError, OomguardError: it cannot be read; ValueError: it is damaged, or may be another user's.
        """
        packed = self._file.read() if key else None
        if packed is None:
            return None
        answer = Answer()
        try:
            for chunk in _unpacked(packed, key.encode() + b"\n"):
                answer.feed(chunk)
            policy = answer.policy() if answer.size else None
        except (TypeError, RecursionError) as error:
            raise ValueError(str(error)) from error
        return policy if policy is not None and fits(policy, host) else None

    def store(self, copy: "Copy") -> str:
        """Store the output of the policy's reader; return why that failed, "" if it did not."""
        packed = copy.finish()
        self._unstored = packed if len(packed) <= _SIZE_LIMIT else None
        return self.store_again()

    def store_again(self) -> str:
        """Store what could not be stored, as when the disk was full; return why that failed again, or ""."""
        trouble = "" if self._unstored is None else self._file.replace(self._unstored)
        if not trouble:
            self._unstored = None
        return trouble


class Copy:
    """The output of the policy's reader, packed as it comes: it compresses to a tenth.

    `key` is that of the policy, "" if its input may be different by the next time.
    """

    def __init__(self, key: str) -> None:
        self.key = key
        self._packer = zlib.compressobj(level=1)
        self._packed = [self._packer.compress(key.encode() + b"\n")]

    def add(self, chunk: bytes) -> None:
        """Add a part."""
        self._packed.append(self._packer.compress(chunk))

    def finish(self) -> bytes:
        """Return the whole, with zlib's checksum at its end."""
        self._packed.append(self._packer.flush())
        return b"".join(self._packed)


class Answer:
    """The output of a policy's reader, decoded as it comes."""

    def __init__(self) -> None:
        self.size = 0
        self.header: dict[str, Any] = {}
        self._partial = b""
        self._decoder = Decoder()

    def feed(self, chunk: bytes) -> None:
        """Add a part. ValueError, TypeError, RecursionError: it is malformed."""
        self.size += len(chunk)
        *lines, self._partial = (self._partial + chunk).split(b"\n")
        for line in lines:
            if not self.header:
                self.header = dict(json.loads(line))
            else:
                self._decoder.feed(line)

    def policy(self) -> Policy:
        """Return the policy after the last part. ValueError: it is incomplete."""
        return self._decoder.policy()


def fits(policy: Policy, host: Host | None) -> bool:
    """Return whether the facts that a policy depends on are unchanged."""
    return not policy.facts or (host is not None and not host.differs(policy.facts))


def policy_files(layers: Iterable[Layer]) -> Iterator[str]:
    """Yield the path of every policy file, in order."""
    for path, is_folder in layers:
        if not is_folder:
            yield path
            continue
        try:
            found = os.listdir(path)
        except OSError:
            continue
        yield from (os.path.join(path, name) for name in sorted(filter(is_drop_in, found)))


def fingerprint(layers: Iterable[Layer]) -> list[tuple[str, Metadata | None]]:
    """Return the metadata of every policy file; None: it is not there, or cannot be seen."""
    return [(path, metadata(path)) for path in policy_files(layers)]


def metadata(path: str) -> Metadata | None:
    """Return the metadata of a file, through links; None: it is not there, or cannot be seen."""
    try:
        info = os.stat(path)
    except OSError:
        return None
    if is_mask(info.st_mode, info.st_rdev):
        return MASK
    return Metadata(
        info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_mode, info.st_uid
    )


def _unpacked(packed: bytes, head: bytes) -> Iterator[bytes]:
    """Yield the unpacked content behind `head`; nothing for another head. ValueError: it is damaged."""
    unpacker = zlib.decompressobj()
    try:
        chunk = unpacker.decompress(packed, len(head))
        if len(chunk) == len(head) and chunk != head:
            return
        while not unpacker.eof:
            chunk = unpacker.decompress(unpacker.unconsumed_tail, _CHUNK)
            if not chunk and not unpacker.eof:
                raise ValueError("it is damaged")  # cut off
            yield chunk
    except zlib.error as error:
        raise ValueError("it is damaged") from error


def _owners(paths: list[str]) -> list[tuple[str, int, int]]:
    """Return who owns, and who may write to, each folder above a policy: the reader warns about some."""
    above: dict[str, None] = {}
    for folder in (folder for path in paths for folder in (path, os.path.realpath(path))):
        while folder != (folder := os.path.dirname(folder)):
            above[folder] = None
    return [(folder, seen.mode, seen.uid) for folder in above if (seen := metadata(folder))]


def _modules() -> list[str]:
    """Return the modules that read a policy: an upgrade may keep the version, as in a checkout."""
    return sorted(
        f"{folder}/{name}"
        for package in ("policy", "core")
        for folder, _, names in os.walk(f"{_PACKAGE}/{package}")
        for name in names
        if name.endswith(".py")
    )
