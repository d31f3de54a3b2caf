"""`oomguard postmortem`: which process the OOM killer killed and why, or would kill under another policy."""

import bz2
import codecs
import gzip
import json
import lzma
import os
import sys
import time
import zlib
from collections import OrderedDict, deque
from contextlib import contextmanager
from itertools import chain
from typing import IO, TYPE_CHECKING, Protocol

from oomguard.cli.host import load_policy
from oomguard.cli.journal import OURS, has_journal, open_journal
from oomguard.core.errors import OomguardError
from oomguard.core.policy import counted
from oomguard.core.text import printable
from oomguard.kernel.kmsg import DEVICE, open_kernel_log, records
from oomguard.oom.backtest import Backtester
from oomguard.oom.log_reader import OomLog
from oomguard.oom.postmortem import examine
from oomguard.report.history import Entry, parse_entry
from oomguard.report.postmortem import Gift, Told
from oomguard.report.postmortem_document import FORMAT, told_document

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from oomguard.oom.report import Report

_BLOCK_BYTES = 1 << 20
_XZ_BYTES = 68 << 20
"""As much as `xz -9` takes to unpack; what logrotate makes takes 9 MiB."""
_REMEMBERED = 1 << 14
_TASKS = 10
_LISTED = 50
_REPORT_SECONDS = 10
"""Printing one may take so long on a slow console."""

_OTHERS = {
    b"\x28\xb5\x2f\xfd": "zstd -dc FILE | oomguard postmortem -",
    b"LPKSHHRH": "journalctl --file FILE -o json _TRANSPORT=kernel | oomguard postmortem -",
}
_JOURNAL_FIELDS = "MESSAGE,_TRANSPORT,_SOURCE_MONOTONIC_TIMESTAMP,_HOSTNAME"
_WITHOUT = "name a file, - for standard input, or use --kmsg for the kernel's log since boot"


def run(options: "argparse.Namespace") -> int:
    """Print all reports, one, or a list of them and the last."""
    log = OomLog()
    examiner = _Examiner(options)
    if options.json:
        _print_json(examiner, log, options)
    else:
        _print(examiner, log, options)
    return 0


# Where reports come from


class _Examiner:
    """Examines reports, and with a policy what would have happened under it."""

    def __init__(self, options: "argparse.Namespace") -> None:
        self._backtester = None if options.policy is None else Backtester(load_policy(options))
        self._policy = options.policy or ""

    def examine(self, number: int, report: "Report") -> Told:
        finding = examine(report)
        backtest = None if self._backtester is None else self._backtester.replay(finding)
        return Told(number, finding, backtest=backtest, policy=self._policy)


def _numbered(options: "argparse.Namespace", log: OomLog) -> "Iterator[tuple[int, Report]]":
    """Yield each report to show, with its number; an OomguardError if there is no such report."""
    number = 0
    for number, report in enumerate(_once(_reports(options, log)), 1):
        if options.report is None or number == options.report:
            yield number, report
    if options.report is not None and not 1 <= options.report <= number:
        raise OomguardError(
            f"no report {options.report}",
            hint=f"the log has {counted(number, 'report')}; the first is 1"
            if number
            else "the log has no report",
        )


def _once(reports: "Iterator[Report]") -> "Iterator[Report]":
    """Skip what is in the log twice, as in kern.log and syslog, among the last _REMEMBERED reports."""
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
    if one[0] is not None and other[0] is not None:
        return abs(one[0] - other[0]) < _REPORT_SECONDS
    return one[1] == other[1] != ""


def _reports(options: "argparse.Namespace", log: OomLog) -> "Iterator[Report]":
    if _is_from_journal(options):
        asked = [f"--{name}={value}" for name in ("since", "until") if (value := getattr(options, name))]
        asked += [f"--output-fields={_JOURNAL_FIELDS}", "_TRANSPORT=kernel"]
        with open_journal(asked, without=_WITHOUT) as journal:
            yield from log.read(_blocks(journal))
        return
    if options.since or options.until:
        raise OomguardError(
            "--since and --until work with the journal only", hint="remove them, or the files"
        )
    if not options.files:
        booted = time.time() - time.clock_gettime(time.CLOCK_MONOTONIC)
        for report in log.read(_kernel_log()):
            yield report._replace(when=f"{booted + (report.uptime_seconds or 0):.6f}")
        return
    yield from log.read(_all_blocks(sorted(options.files, key=_age)))


def _age(path: str) -> float:
    """Return when a log was last written; standard input counts as the newest."""
    try:
        return float("inf") if path == "-" else os.stat(path).st_mtime
    except OSError:
        return 0.0  # opening it reports the error


def _all_blocks(paths: "list[str]") -> "Iterator[str]":
    """Yield several files as one log: a report may begin in one and end in the next."""
    for path in paths:
        with _open(path) as file:
            yield from _blocks(file)
        yield "\n"


def _is_from_journal(options: "argparse.Namespace") -> bool:
    if options.kmsg and options.files:
        raise OomguardError("--kmsg and files cannot be used together", hint="remove one of them")
    return not options.files and not options.kmsg and has_journal()


def _kernel_log() -> "Iterator[str]":
    fd = open_kernel_log()
    try:
        for record in records(fd):
            yield record.decode("ascii", "surrogateescape")  # what is not is escaped
    finally:
        os.close(fd)


@contextmanager
def _open(path: str) -> "Iterator[_Log]":
    """Open a log, compressed or not; `-` is standard input."""
    if path == "-":
        yield sys.stdin.buffer
        return
    try:
        with open(path, "rb") as file:
            head = file.peek(8)[:8]
            for magic, command in _OTHERS.items():
                if head.startswith(magic):
                    raise OomguardError(
                        f"{printable(path)} is not text",
                        hint=f"use: {command.replace('FILE', printable(path))}",
                    )
            yield _unpacked(file, head)
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise OomguardError(f"{printable(path)}: {said}", hint=_WITHOUT) from error


def _unpacked(file: "IO[bytes]", head: bytes) -> "_Log":
    if head.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=file)
    if head.startswith(b"\xfd7zXZ"):
        return _Xz(file)
    if head.startswith(b"BZh"):
        return bz2.BZ2File(file)
    return file


class _Log(Protocol):
    def read(self, size: int, /) -> bytes: ...


class _Xz:
    """An .xz file, read in bounded memory: a few bytes may ask for 4 GiB, and LZMAFile has no limit."""

    def __init__(self, file: "IO[bytes]") -> None:
        self._file = file
        self._stream = _xz_stream()

    def read(self, size: int, /) -> bytes:
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


def _blocks(file: "_Log") -> "Iterator[str]":
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    while block := file.read(_BLOCK_BYTES):
        yield decoder.decode(block)
    yield decoder.decode(b"", final=True)


def _gift(report: "Report") -> Gift | None:
    """Ask the journal whether oomguard set the victim's value."""
    victim = report.victim
    if victim is None or victim.oom_score_adj is None or not report.when:
        return None
    asked = [
        *OURS,
        f"OBJECT_PID={victim.pid}",
        "OOMGUARD_EVENT=applied",
        f"--until=@{float(report.when):.6f}",
    ]
    last: Entry | None = None
    with open_journal(asked, without=_WITHOUT) as journal:
        for line in journal:
            entry = parse_entry(line)
            if entry is not None and entry.comm == printable(victim.comm):
                last = entry
    if last is None or last.new != str(victim.oom_score_adj) or not last.rule:
        return None
    return Gift(last.new, last.rule, last.source, last.time.strftime("%Y-%m-%d %H:%M:%S"))


def _with_gift(told: Told, options: "argparse.Namespace") -> Told:
    return told._replace(gift=_gift(told.finding.report)) if _is_from_journal(options) else told


# What is shown


def _print(examiner: _Examiner, log: OomLog, options: "argparse.Namespace") -> None:
    from oomguard.report.postmortem_table import Row, list_row, print_list, print_told

    limit = _TASKS if options.tasks is None else options.tasks
    listed: deque[Row | tuple[int, Report]] = deque(maxlen=_LISTED)
    last: tuple[int, Report] | None = None
    count = 0
    for last in _numbered(options, log):
        if options.all:
            if count:
                print()
            print_told(_with_gift(examiner.examine(*last), options), limit=limit)
        else:
            # One with a table is too large to keep fifty. Of those without, there may be millions.
            listed.append(list_row(examiner.examine(*last)) if last[1].is_large else last)
        count += 1
    if last is None:
        print(_nothing(options))
        if log.foreign:
            mention = (
                "mentions a killed process, but is"
                if log.foreign == 1
                else "mention killed processes, but are"
            )
            print(
                f"{counted(log.foreign, 'line')} {mention} from another program or in an unknown format.\n"
                "Use the output of `dmesg` or `journalctl -k -o json`."
            )
    elif not options.all:
        if count > 1:
            rows = [one if isinstance(one, Row) else list_row(examiner.examine(*one)) for one in listed]
            print_list(rows, has_policy=options.policy is not None)
            hidden = count - len(rows)
            more = f"and {counted(hidden, 'earlier report')}. " if hidden else ""
            print(f"\n{more}--report N explains one of them, --all explains all. The last:\n")
        print_told(_with_gift(examiner.examine(*last), options), limit=limit)
    if log.refusals:
        print(
            f"\n{counted(log.refusals, 'allocation')} failed because of vm.overcommit_memory. The kernel"
            " killed no process for this."
        )
    if log.skipped:
        print(
            f"\n{counted(log.skipped, 'line')} skipped: too long for a kernel log, or too many short ones"
            " that mention memory."
        )


def _nothing(options: "argparse.Namespace") -> str:
    if options.files:
        return "No report of the OOM killer in the log."
    where = "the journal" if _is_from_journal(options) else f"{DEVICE}, which starts at boot or later"
    return f"No report of the OOM killer in {where}."


def _print_json(examiner: _Examiner, log: OomLog, options: "argparse.Namespace") -> None:
    """Print one document, report by report: there may be thousands."""
    numbered = _numbered(options, log)
    first = next(numbered, None)  # errors come before any output
    print(f'{{\n  "format": {FORMAT},\n  "reports": [', end="")
    between = "\n"
    for one in chain([] if first is None else [first], numbered):
        document = told_document(_with_gift(examiner.examine(*one), options), limit=options.tasks or 0)
        print(f"{between}{json.dumps(document, indent=2)}", end="")
        between = ",\n"
    print(f'\n  ],\n  "refused_allocations": {log.refusals}\n}}')
