"""The ledger: the original value of everything that oomguard changed.

Each line is a checksum and JSON. A line is appended in one write before the change that it is about, and
marked as an intent; a second line records the result. For a process, a line about anything else also confirms
its write. So after a crash at any point there is either no line and no change, or a line that shows what to
restore. After an intent without a second line, the current value shows whether it was written, when the
ledger is opened next (`Entry.after_crash`). A restore is a change, too.

A damaged line, or one cut short by a full disk or a crash, is ignored: its checksum is wrong. The checksum
covers the boot id, so a line of another boot is ignored even if the header is damaged. If either boot is
unknown (`subset=pid`), the lines count: a reboot empties /run.
"""

import errno
import json
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress

from oomguard.core.entry import Entry
from oomguard.core.errors import OomguardError
from oomguard.core.process import Identity, UnknownFactError
from oomguard.core.protection import Protection, Protections
from oomguard.core.sysctl import SYSCTLS
from oomguard.core.typed import TYPE_CHECKING
from oomguard.kernel.hidepid import may_be_hidden
from oomguard.kernel.proc_files import GONE, HIDDEN
from oomguard.kernel.procfs import Procfs
from oomguard.kernel.sysctl_files import read_sysctl
from oomguard.reconcile.known import NOTHING, Known
from oomguard.reconcile.state_folder import StateFolder

if TYPE_CHECKING:
    from typing import Any

Target = str | Identity
"""The key of an entry: a sysctl's name, or a process."""

_FILE = "ledger"
_DAMAGED = "ledger.damaged"
_VERSION = 2
_VERSION_WITHOUT_CHECKSUMS = 1
_CHECKSUM = 9
"""Bytes of a line before its JSON: eight hexadecimal digits and a space."""

_ENTRY_FIELDS = 7
"""Fields of an entry that are in its list; `is_written` has its own key, which older versions ignore."""

_SLACK_LINES = 4096
"""Lines beyond the live entries after which the file is rewritten."""


class Ledger:
    """The entries in force: in memory, and in a file if there is a folder for it."""

    def __init__(self, *, boot_id: str = "") -> None:
        self.sysctls: dict[str, Entry] = {}
        self.known: dict[int, Known] = {}
        """What is known about processes, by pid; their entries are on file, too."""
        self.in_force = 0
        """How many of these have an entry."""
        self.protections = Protections()
        """What outlives the processes that it is about, because their descendants may have inherited it."""
        self.ignored_lines = 0
        """Lines of the file that could not be read."""
        self._boot_id = boot_id
        self._seed = zlib.crc32(boot_id.encode())
        self._folder: StateFolder | None = None
        self._fd = -1
        self._unconfirmed: Identity | None = None
        """The process whose intent is the last line of the file, although its value is written by now."""
        self._unwritten: Target | None = None
        """What the file has a wrong last line about: no other may follow, as that would confirm an intent."""
        self._lines = 0
        self._longest = _SLACK_LINES
        self._is_stale = False

    @property
    def processes(self) -> dict[Identity, Entry]:
        """The processes with an entry."""
        return dict(self._of_processes())

    def entry(self, target: Target) -> Entry | None:
        """Return the entry of a sysctl, or of exactly this process."""
        if isinstance(target, str):
            return self.sysctls.get(target)
        one = self.known.get(target.pid, NOTHING)
        return one.entry if one.start_time_ticks == target.start_time_ticks else None

    def protects(self, pid: int) -> bool:
        """Return whether oomguard lowered this process below its original value."""
        entry = self.known.get(pid, NOTHING).entry
        return entry is not None and entry.given < entry.original

    def hidden(self, procfs: Procfs) -> int:
        """Return how many processes with an original value live, but are hidden in /proc."""
        unseen = {one.pid for one in self.processes}.difference(procfs.pids())
        return sum(may_be_hidden(procfs, pid) for pid in unseen)

    def known_of(self, process: Identity) -> Known:
        """Return what is known about a process; it can be changed."""
        one = self.known.get(process.pid)
        if one is None:
            one = self.known[process.pid] = Known()
        one.start_time_ticks = process.start_time_ticks
        return one

    def record(self, target: Target, entry: Entry) -> None:
        """Record the entry of a value before the value is changed."""
        self._append_text(_text(target, entry))
        self._set(target, entry)

    def intend(self, process: Identity, entry: Entry) -> None:
        """Record the entry of a process before its value is changed; call `set_entry` if that fails.

        The next line confirms it, whatever that is about; `flush` writes one if none follows.
        """
        # To rewrite the file between two intents for one write would confirm the first.
        text = _text(process, entry, is_intent=True)
        self._append_text(text, may_rewrite=process != self._unconfirmed)
        self._set(process, entry)
        self._unconfirmed = process

    def confirm(self, name: str) -> None:
        """Record that a sysctl was changed as its entry says."""
        entry = self.sysctls.get(name)
        if entry is not None:
            self.set_entry(name, entry._replace(is_written=True))

    def flush(self) -> None:
        """Write what is pending, and the whole file again if readers would not find it (removed, moved).

        While that fails, nothing can be recorded, and so nothing is changed.
        """
        if self._folder is None:
            return
        with suppress(OSError):  # retried at the next flush
            if self._fd < 0 or not self._folder.has(_FILE, self._fd):
                self._is_stale = True
                self._close_file()
                self._rewrite()
            elif self._unconfirmed is not None:
                self._append_text(_text(self._unconfirmed, self.entry(self._unconfirmed)))

    def set_entry(self, target: Target, entry: Entry | None) -> None:
        """Set or delete an entry in memory; a file that cannot be written is rewritten after the pass."""
        if self.entry(target) == entry:
            return
        self._set(target, entry)
        try:
            self._append_text(_text(target, entry))
        except OSError:
            self._is_stale = True
            if self._unwritten is None:
                self._unwritten = target

    def strike(self, target: Target) -> None:
        """Delete the entry of a value that oomguard no longer sets, or never set."""
        self.set_entry(target, None)

    def record_protection(self, value: int, service: str, original: int, since_ticks: int) -> None:
        """Record that a rule sets a value that descendants inherit and are reset from."""
        is_news = self.protections.add(value, service, original, since_ticks)
        if is_news or self._is_stale:
            try:
                self._append_text(_protection_text(value, service, Protection(original, since_ticks)))
            except OSError:
                self._is_stale = True  # the file lacks what is known now
                raise

    def forget_process(self, pid: int) -> None:
        """Drop a process that ended, in memory only: its line in the file is about no living process."""
        one = self.known.get(pid, NOTHING)
        if one.entry is not None:
            self.in_force -= 1
            one.entry = None

    def compact(self) -> None:
        """Flush, and rewrite the file if it is damaged or too long."""
        self.flush()
        if self._folder is not None and (self._is_stale or self._is_long()):
            with suppress(OSError):  # the existing file is whole, only long
                self._rewrite()

    def close(self) -> None:
        """Close the file; entries can no longer be recorded."""
        self.flush()
        self._folder = None
        self._close_file()

    def _is_long(self) -> bool:
        if self._lines <= self._longest:
            return False
        live = len(self.sysctls) + self.in_force + len(self.protections)
        return self._lines > 2 * live + _SLACK_LINES

    def _set(self, target: Target, entry: Entry | None) -> None:
        if isinstance(target, str):
            if entry is None:
                self.sysctls.pop(target, None)
            else:
                self.sysctls[target] = entry
        else:
            one = self.known_of(target)
            self.in_force += (entry is not None) - (one.entry is not None)
            one.entry = entry

    def _entries(self) -> Iterator[tuple[Target, Entry]]:
        yield from self.sysctls.items()
        yield from self._of_processes()

    def _of_processes(self) -> Iterator[tuple[Identity, Entry]]:
        for pid, one in self.known.items():
            if one.entry is not None:
                yield Identity(pid, one.start_time_ticks), one.entry

    def _append_text(self, text: bytes, *, may_rewrite: bool = True) -> None:
        if self._folder is None:
            return
        if may_rewrite and self._is_long():
            self._longest = 2 * self._lines  # if there is no room, do not retry with each line
            with suppress(OSError):  # the existing file is whole, only long
                self._rewrite()  # what is written again and again between two passes must not fill /run
        if self._fd < 0:
            self._fd = self._folder.open_file(_FILE, os.O_WRONLY | os.O_APPEND)
        line = self._header() if self._is_stale and not os.fstat(self._fd).st_size else b""  # it is new
        missing = self._unwritten
        if missing is not None:
            line += _line(_text(missing, self.entry(missing)), self._seed)
        line += _line(text, self._seed)
        written = os.write(self._fd, line)
        if written != len(line):
            # Without its newline, the line would damage the next one.
            os.ftruncate(self._fd, os.fstat(self._fd).st_size - written)
            raise OSError(errno.ENOSPC, "the ledger could not be written")
        self._lines += 1 if missing is None else 2
        self._unconfirmed = self._unwritten = None

    def _rewrite(self) -> None:
        assert self._folder is not None
        content, lines = bytearray(self._header()), 1
        for text in self._texts():
            content += _line(text, self._seed)
            lines += 1
        self._folder.replace(_FILE, content)
        self._lines, self._longest, self._is_stale = lines, _SLACK_LINES, False
        self._unconfirmed = self._unwritten = None
        self._close_file()
        self._fd = self._folder.open_file(_FILE, os.O_WRONLY | os.O_APPEND)

    def _header(self) -> bytes:
        return _line(json.dumps({"version": _VERSION, "boot_id": self._boot_id}).encode("ascii"))

    def _texts(self) -> Iterator[bytes]:
        """Yield what the file must have, one by one: a list for 10,000 processes takes more than the file."""
        for target, entry in self._entries():
            yield _text(target, entry)
        for row in self.protections:
            yield _protection_text(*row)

    def _close_file(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _read(self, raw: bytes) -> None:
        header, *lines = raw.split(b"\n")
        version, boot = _read_header(header)
        seed = self._seed
        if version is None:
            self.ignored_lines += 1  # the checksum of each line still shows whether it is from this boot
        elif boot is None:  # another version's: the file is kept, for that version
            self.ignored_lines += len(lines)
            return
        elif boot != self._boot_id and boot and self._boot_id:
            return
        else:
            seed = zlib.crc32(boot.encode())
            self._boot_id = self._boot_id or boot
            self._seed = zlib.crc32(self._boot_id.encode())
        intent: Identity | None = None
        # Each line ends in a newline, so anything after the last one was cut short.
        for line in lines[:-1]:
            try:
                text = line if version == _VERSION_WITHOUT_CHECKSUMS else _checked(line, seed)
                intent = self._read_row(json.loads(text), intent)
            except (ValueError, KeyError, TypeError, RecursionError):
                self.ignored_lines += 1

    def _read_row(self, row: "Any", intent: Identity | None) -> Identity | None:
        """Read a line, and confirm the intent before it; return the process that it is an intent for."""
        target: Target | None = None
        if "protected" in row:
            protection = Protection(*row["is"])
            _must_be_integers((row["protected"], *protection))
            if type(row["service"]) is not str:
                raise ValueError("no service")
            self.protections.add(row["protected"], row["service"], *protection)
        else:
            entry = None if row["entry"] is None else _entry(row)
            if "sysctl" in row:
                target = SYSCTLS[row["sysctl"]].name
            else:
                target = Identity(row["pid"], row["start"])
                _must_be_integers(target)
            self._set(target, entry)
        if intent is not None and intent != target and (known := self.entry(intent)) is not None:
            self._set(intent, known._replace(is_written=True))
        return target if isinstance(target, Identity) and row.get("intent") else None

    def _resolve_intents(self, value_of: Callable[[Target], int | None]) -> None:
        """Find out which intents of a crashed writer were carried out."""
        for target, entry in list(self._entries()):
            value = None if entry.is_written else value_of(target)
            if value is not None:
                self.set_entry(target, entry.after_crash(value))


def open_hosts_ledger(folder: StateFolder, procfs: Procfs, *, to_restore: bool = False) -> Ledger:
    """Open the ledger of a host for writing, as `open_ledger`."""

    def value_of(target: Target) -> int | None:
        if isinstance(target, str):
            with suppress(OSError):
                return read_sysctl(procfs, target)
            return None
        handle = procfs.open(target.pid)
        if handle is None:
            return None
        with handle, suppress(*GONE, HIDDEN, UnknownFactError):
            if handle.identity == target:
                return handle.read_oom_score_adj()
        return None

    def may_live(identity: Identity) -> bool:
        return procfs.is_alive(identity) or may_be_hidden(procfs, identity.pid)

    return open_ledger(
        folder, boot_id=procfs.boot_id(), is_alive=may_live, value_of=value_of, to_restore=to_restore
    )


def open_ledger(
    folder: StateFolder,
    *,
    boot_id: str,
    is_alive: Callable[[Identity], bool],
    value_of: Callable[[Target], int | None] = lambda _: None,
    to_restore: bool = False,
) -> Ledger:
    """Open the ledger for writing, with the entries of this boot whose processes still live.

    `value_of` returns the current value of a sysctl or process, None if unknown. Raises OomguardError if the
    ledger cannot be written: nothing may be changed then, because nothing could be restored. `to_restore`
    needs no new entries, so a full disk is no error.
    """
    ledger = read_ledger(folder, boot_id=boot_id)
    if ledger.ignored_lines:
        with suppress(OSError):
            folder.replace(_DAMAGED, folder.read(_FILE) or b"")  # kept for whoever can still use it
    for process in ledger.processes:
        if not is_alive(process):
            ledger.forget_process(process.pid)
    ledger._resolve_intents(value_of)
    ledger._folder, ledger._is_stale = folder, True
    try:
        ledger._rewrite()
    except OSError as error:
        if to_restore:
            return ledger
        raise OomguardError(
            f"{folder.path}/{_FILE}: cannot be written: {os.strerror(error.errno or errno.EIO)}",
            hint="make it writable; without a ledger, oomguard changes nothing, as it could not restore it",
        ) from error
    return ledger


def read_ledger(folder: StateFolder, *, boot_id: str) -> Ledger:
    """Read the ledger without the right to record anything, for `plan` and `status`."""
    ledger = Ledger(boot_id=boot_id)
    raw = folder.read(_FILE)
    if raw:
        ledger._read(raw)
    return ledger


def _line(text: bytes, seed: int = 0) -> bytes:
    return b"%08x %b\n" % (zlib.crc32(text, seed), text)


def _checked(line: bytes, seed: int = 0) -> bytes:
    """Return the JSON of a line. ValueError: the line is damaged."""
    text = line[_CHECKSUM:]
    if _line(text, seed) != line + b"\n":
        raise ValueError("the checksum is wrong")
    return text


def _protection_text(value: int, service: str, protection: Protection) -> bytes:
    return json.dumps({"protected": value, "service": service, "is": protection}).encode("ascii")


def _text(target: Target, entry: Entry | None, *, is_intent: bool = False) -> bytes:
    if isinstance(target, str):
        row: dict[str, object] = {"sysctl": target, "entry": None if entry is None else entry[:_ENTRY_FIELDS]}
        return json.dumps(row if entry is None or entry.is_written else row | {"intent": 1}).encode("ascii")
    # Formatted by hand, because it is written for every managed process: json.dumps takes 4 times as long.
    values, mark = "null", ""
    if entry is not None:
        before = "null" if entry.given_before is None else entry.given_before
        values = f"[{entry.original},{entry.given},{before},{entry.since_ticks},{int(entry.moved_floor)}]"
        mark = ',"intent":1' if is_intent or not entry.is_written else ""
    return f'{{"pid":{target.pid},"start":{target.start_time_ticks},"entry":{values}{mark}}}'.encode("ascii")


def _entry(row: "dict[str, Any]") -> Entry:
    """Return an entry as it was written. ValueError or TypeError: it is not one."""
    fields = row["entry"]
    if len(fields) > _ENTRY_FIELDS:
        raise ValueError("too many fields")
    entry = Entry(*fields)._replace(is_written=not row.get("intent", 0))
    numbers = (entry.original, entry.given, entry.given_before or 0, entry.since_ticks, entry.made or 0)
    _must_be_integers(numbers)
    if entry.moved_floor not in (0, 1) or entry.is_grant_pending not in (0, 1):
        raise ValueError("neither 0 nor 1")
    return entry._replace(moved_floor=bool(entry.moved_floor), is_grant_pending=bool(entry.is_grant_pending))


def _must_be_integers(values: tuple[object, ...]) -> None:
    if not all(type(value) is int for value in values):
        raise ValueError("not integers")


def _read_header(header: bytes) -> tuple[int | None, str | None]:
    """Return a file's version, None if the line is damaged, and its boot, None if the version is unknown."""
    try:
        has_checksum = not header.startswith(b"{")
        row = json.loads(_checked(header) if has_checksum else header)
        version, boot = row["version"], str(row["boot_id"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None, None
    known = _VERSION if has_checksum else _VERSION_WITHOUT_CHECKSUMS
    return version, boot if version == known else None
