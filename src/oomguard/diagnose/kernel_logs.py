"""Kernel logs, wherever they are: the journal, files, standard input or /dev/kmsg."""

import bz2
import codecs
import gzip
import lzma
import os
import select
import stat
import time
import zlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BufferedReader, FileIO
from typing import IO, TYPE_CHECKING, Protocol, cast

from oomguard.core.errors import OomguardError
from oomguard.core.text import printable
from oomguard.diagnose.journalctl import OURS, has_journal, open_journal, other_killers, unreadable
from oomguard.kernel.dev_kmsg import DEVICE, open_kernel_log, records
from oomguard.oom.kill import Kill
from oomguard.oom.log_line import Line
from oomguard.oom.log_reader import OomLog
from oomguard.oom.log_time import is_near
from oomguard.oom.report import Report
from oomguard.report.log_entries import LoggedEntry, parse_entry
from oomguard.report.postmortem import ValueOrigin

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_BLOCK_BYTES = 1 << 20
_MAGIC_LENGTH = 8
_XZ_BYTES = 68 << 20
"""As much as `xz -9` takes to unpack; what logrotate makes takes 9 MiB."""
_REMEMBERED = 1 << 14
_REPORT_SECONDS = 10
"""Printing one may take so long on a slow console."""

_OTHERS = {
    b"\x28\xb5\x2f\xfd": "zstd -dc FILE | oomguard postmortem -",
    b"LPKSHHRH": "journalctl --file FILE -o json _TRANSPORT=kernel | oomguard postmortem -",
}
_JOURNAL_FIELDS = "MESSAGE,_TRANSPORT,_SOURCE_MONOTONIC_TIMESTAMP,_HOSTNAME,_SYSTEMD_UNIT,_PID"
_UNIT_OUT_OF_MEMORY = "fe6faa94e7774663a0da52717891d8ef"
"""SD_MESSAGE_UNIT_OUT_OF_MEMORY: systemd says that the OOM killer killed a process of a unit."""
_WITHOUT = "name a file, - for standard input, or use --kmsg for the kernel's log since boot"


class KernelLog:
    """The log to read: these files, /dev/kmsg with `kmsg`, otherwise the journal if there is one.

    OomguardError: `since` or `until` without a journal.
    """

    def __init__(self, files: Sequence[str], *, kmsg: bool, since: str | None, until: str | None) -> None:
        self.is_journal = not files and not kmsg and has_journal()
        self._files = files
        self.damage: OomguardError | None = None
        """Why a part of the log could not be read, known once all reports are yielded."""
        self._span = [f"--{key}={value}" for key, value in (("since", since), ("until", until)) if value]
        if self._span and not self.is_journal:
            raise OomguardError(
                "this host has no journal",
                hint="without --since and --until, postmortem reads the kernel's log",
            )

    @property
    def is_of_this_host(self) -> bool:
        """Whether all of it is from this host. A file can be from anywhere."""
        return not self._files

    @property
    def name(self) -> str:
        """The name of the log, for a sentence."""
        if self._files:
            return "the log"
        return "the journal" if self.is_journal else f"{DEVICE}, which starts at boot or later"

    def reports(self, log: OomLog) -> Iterator[Report]:
        """Yield the reports that `log` finds, each once. OomguardError: it cannot be read."""
        return _once(self._reports(log))

    def _reports(self, log: OomLog) -> Iterator[Report]:
        if self.is_journal:
            asked = [*self._span, f"--output-fields={_JOURNAL_FIELDS}", "_TRANSPORT=kernel"]
            asked += [*other_killers(), "+", f"MESSAGE_ID={_UNIT_OUT_OF_MEMORY}", "_PID=1"]
            with open_journal(asked, without=_WITHOUT) as journal:
                yield from log.read(_blocks(cast("_Log", journal)))
            self.damage = unreadable()
        elif self._files:
            yield from log.read(self._all_blocks())
        else:
            booted = time.time() - time.clock_gettime(time.CLOCK_MONOTONIC)
            for report in log.read(_kernel_log()):
                yield report._replace(when=f"{booted + (report.uptime_seconds or 0):.6f}")

    def _all_blocks(self) -> Iterator[str]:
        """Yield several files as one log: a report may begin in one and end in the next."""
        for path in sorted(self._files, key=_age):
            try:
                with _open(path) as file:
                    yield from _blocks(file)
            except OomguardError as error:
                self.damage = self.damage or error
            yield "\n"

    def value_origins(self, reports: Sequence[Report]) -> list[ValueOrigin | None]:
        """Return from the journal which of the victims' values oomguard set; None for each it did not."""
        victims = [_victim(report) for report in reports]
        found: dict[str, list[LoggedEntry]] = {}
        if pids := sorted({victim.pid for victim in victims if victim is not None}):
            asked = [*OURS, "OOMGUARD_EVENT=applied", *(f"OBJECT_PID={pid}" for pid in pids)]
            with open_journal(asked, without=_WITHOUT) as journal:
                for entry in map(parse_entry, journal):
                    if entry is not None:
                        found.setdefault(entry.pid, []).append(entry)
        return [
            None if victim is None else _origin(victim, float(report.when), found)
            for victim, report in zip(victims, reports, strict=True)
        ]


def _victim(report: Report) -> Kill | None:
    """Return the victim if its line has its value and the time."""
    victim = report.victim
    return victim if report.when and victim is not None and victim.oom_score_adj is not None else None


def _origin(victim: Kill, moment: float, found: Mapping[str, Sequence[LoggedEntry]]) -> ValueOrigin | None:
    """Return the last change of the victim's value before that moment, if it still had that value."""
    entries = [one for one in found.get(str(victim.pid), ()) if _is_name(one.comm, printable(victim.comm))]
    last = next((one for one in reversed(entries) if one.time.timestamp() <= moment), None)
    if last is None or last.new != str(victim.oom_score_adj) or not last.rule:
        return None
    return ValueOrigin(last.new, last.rule, last.source, last.time.strftime("%Y-%m-%d %H:%M:%S"))


def _is_name(logged: str, name: str) -> bool:
    """Return whether a process has a name, or had it when it was logged.

    As `(postgres)`, systemd is about to run `postgres`; as `15`, its executor runs, opened by a descriptor.
    """
    is_about_to_run = logged.startswith("(") and name.endswith(logged[1:].removesuffix(")"))
    return logged == name or is_about_to_run or logged.isdecimal()


def _once(reports: Iterator[Report]) -> Iterator[Report]:
    """Skip reports that are in the log twice, as in kern.log and syslog, among the last _REMEMBERED."""
    seen: OrderedDict[int, tuple[float | None, str]] = OrderedDict()
    for report in reports:
        key, time = hash((report.host, report.kills)), (report.uptime_seconds, report.when)
        if report.kills and key in seen and _is_same_time(seen[key], time):
            continue
        seen[key] = time
        if len(seen) > _REMEMBERED:
            seen.popitem(last=False)
        yield report


def _is_same_time(one: tuple[float | None, str], other: tuple[float | None, str]) -> bool:
    if one[0] is None or other[0] is None:
        return one[1] == other[1] != ""
    is_alike = len(one[1]) == len(other[1])  # two files may write one time in two ways
    is_of_one_boot = not is_alike or is_near(Line("", one[1]), Line("", other[1]))
    return is_of_one_boot and abs(one[0] - other[0]) < _REPORT_SECONDS


def _age(path: str) -> float:
    """Return when a log was last written; standard input counts as the newest."""
    try:
        return float("inf") if path == "-" else os.stat(path).st_mtime
    except OSError:
        return 0.0  # opening it reports the error


def _kernel_log() -> Iterator[str]:
    fd = open_kernel_log()
    try:
        for record in records(fd):
            yield record.decode("ascii", "surrogateescape")  # what is not is escaped
    finally:
        os.close(fd)


@contextmanager
def _open(path: str) -> "Iterator[_Log]":
    """Open a log, compressed or not; `-` is standard input."""
    is_stdin = path == "-"
    name = "<stdin>" if is_stdin else printable(path)
    try:
        with BufferedReader(_Patient(0 if is_stdin else path, closefd=not is_stdin)) as file:
            if _may_never_end(os.fstat(file.fileno())) and not file.isatty():
                raise OomguardError(f"{name} is a device", hint="give a file, - for a pipe, or --kmsg")
            head = file.peek(_MAGIC_LENGTH)[:_MAGIC_LENGTH]
            for magic, command in _OTHERS.items():
                if head.startswith(magic):
                    raise OomguardError(
                        f"{name} is not text",
                        hint=f"use: {command.replace('FILE', printable(path))}",
                    )
            yield _unpacked(file, head)
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise OomguardError(f"{name}: {said}", hint=_WITHOUT) from error


def _may_never_end(found: os.stat_result) -> bool:
    """Return whether it is a device such as /dev/zero, but not /dev/null."""
    is_device = stat.S_ISCHR(found.st_mode) or stat.S_ISBLK(found.st_mode)
    return is_device and found.st_rdev != os.makedev(1, 3)


def _unpacked(file: "BufferedReader[_Patient]", head: bytes) -> "_Log":
    if head.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=file)
    if head.startswith(b"\xfd7zXZ"):
        return _Xz(file)
    if head.startswith(b"BZh"):
        return bz2.BZ2File(file)
    return file


class _Patient(FileIO):
    """A file whose first read returns what tells its format: a pipe may give a byte at a time."""

    _has_begun = False

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        """Read into a buffer; return how many bytes, 0 at the end."""
        view, count = memoryview(buffer), 0
        while (got := super().readinto(view[count:])) != 0:
            if got is None:  # another user of the pipe made it non-blocking
                select.select([self], [], [])
                continue
            count += got
            if self._has_begun or count >= _MAGIC_LENGTH:
                break
        self._has_begun = True
        return count


class _Log(Protocol):
    def read1(self, size: int, /) -> bytes: ...


class _Xz:
    """An .xz file, read in bounded memory: a few bytes may ask for 4 GiB, and LZMAFile has no limit."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._stream = _xz_stream()

    def read1(self, size: int, /) -> bytes:
        """Return at most `size` bytes, b"" at the end. LZMAError: damaged, or too costly; EOFError: cut."""
        while True:
            if self._stream.eof:  # there may be more streams, and zeros between them
                raw = self._stream.unused_data.lstrip(b"\0")
                while not raw:
                    packed = self._file.read(_BLOCK_BYTES)
                    if not packed:
                        return b""
                    raw = packed.lstrip(b"\0")
                self._stream = _xz_stream()
            elif self._stream.needs_input:
                raw = self._file.read(_BLOCK_BYTES)
                if not raw:
                    raise EOFError("it ends in the middle of a stream")
            else:
                raw = b""
            if data := self._stream.decompress(raw, size):
                return data


def _xz_stream() -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_BYTES)


def _blocks(file: _Log) -> Iterator[str]:
    """Yield a log as text: UTF-8, or UTF-16, as some editors write it."""
    block = file.read1(_BLOCK_BYTES)  # what precedes damage is not lost
    encoding, errors = _encoding(block[:4])
    decoder = codecs.getincrementaldecoder(encoding)(errors)
    while block:
        yield decoder.decode(block)
        block = file.read1(_BLOCK_BYTES)
    yield decoder.decode(b"", final=True)


def _encoding(head: bytes) -> tuple[str, str]:
    """Return the encoding of a log: UTF-16 begins with a mark, or has a zero in each character of ASCII."""
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16", "replace"
    if (zeros := [byte == 0 for byte in head]) in ([False, True] * 2, [True, False] * 2):
        return "utf-16-be" if zeros[0] else "utf-16-le", "replace"
    return "utf-8", "surrogateescape"
