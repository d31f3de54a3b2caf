"""Where entries go: journald's protocol on a real socket, lines on a stream."""

import io
import os
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datagram import parse_datagram
from oomguard.report.events import DENIED, STARTED, LogEntry
from oomguard.report.journal import JournalSink, StreamSink, encode, open_sink


@pytest.fixture
def close() -> Iterator[list[JournalSink]]:
    """Close the sinks that are put into this list: the daemon keeps its own for as long as it runs."""
    sinks: list[JournalSink] = []
    yield sinks
    for sink in sinks:
        sink._socket.close()


@pytest.fixture
def journal_sink(close: list[JournalSink]) -> Callable[[Path], JournalSink]:
    """Return what makes a sink for a path."""

    def make(path: Path) -> JournalSink:
        close.append(JournalSink(str(path)))
        return close[-1]

    return make


@pytest.fixture
def journald(tmp_path: Path) -> Iterator[socket.socket]:
    """Listen where journald would."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "socket"))
        listener.settimeout(5)
        yield listener


def test_an_entry_arrives_with_every_field(
    journald: socket.socket, tmp_path: Path, journal_sink: Callable[[Path], JournalSink]
) -> None:
    """One datagram, and what it says is what was meant."""
    sink = journal_sink(tmp_path / "socket")
    sink.write(LogEntry(DENIED, "sshd[7]: 0 → -900 denied", {"OBJECT_PID": "7", "OOMGUARD_COMM": "sshd"}))
    assert parse_datagram(journald.recv(65536)) == [
        ("MESSAGE", "sshd[7]: 0 → -900 denied".encode()),
        ("MESSAGE_ID", DENIED.message_id.encode()),
        ("PRIORITY", b"4"),
        ("SYSLOG_IDENTIFIER", b"oomguard"),
        ("OOMGUARD_EVENT", b"denied"),
        ("OBJECT_PID", b"7"),
        ("OOMGUARD_COMM", b"sshd"),
    ]
    assert sink.lost == 0


@pytest.mark.parametrize(
    "value",
    [
        "x\nPRIORITY=0",
        "x\nPRIORITY=0\n",
        "\n",
        "\nMESSAGE_ID=forged\nX",
        "x\nMESSAGE\n\x05\x00\x00\x00\x00\x00\x00\x00forge\n",
        "=",
        "",
        "a=b=c",
    ],
)
def test_no_value_can_forge_a_field(
    journald: socket.socket, tmp_path: Path, journal_sink: Callable[[Path], JournalSink], value: str
) -> None:
    """Not with newlines, nor with the protocol's own lengths."""
    sink = journal_sink(tmp_path / "socket")
    sink.write(LogEntry(STARTED, value, {"OOMGUARD_COMM": value}))
    fields = parse_datagram(journald.recv(65536))
    assert len(fields) == 6
    assert dict(fields) == {
        "MESSAGE": value.encode(),
        "MESSAGE_ID": STARTED.message_id.encode(),
        "PRIORITY": b"5",
        "SYSLOG_IDENTIFIER": b"oomguard",
        "OOMGUARD_EVENT": b"started",
        "OOMGUARD_COMM": value.encode(),
    }


@given(
    st.dictionaries(st.from_regex("[A-Z]{3,8}", fullmatch=True), st.text(max_size=40), max_size=5),
    st.text(max_size=1000),
)
def test_any_fields_come_back_as_they_were(fields: dict[str, str], message: str) -> None:
    """For any text at all, surrogates escaped."""
    found = dict(parse_datagram(encode(LogEntry(STARTED, message, fields))))
    for name, value in ({"MESSAGE": message} | fields).items():
        assert found[name] == value.encode("utf-8", "backslashreplace")


def test_a_long_value_is_cut(
    journald: socket.socket, tmp_path: Path, journal_sink: Callable[[Path], JournalSink]
) -> None:
    """A pattern of a policy may be longer than a datagram."""
    sink = journal_sink(tmp_path / "socket")
    sink.write(LogEntry(STARTED, "x" * 1_000_000, {"OOMGUARD_RULE": "y\n" * 1_000_000}))
    fields = dict(parse_datagram(journald.recv(65536)))
    assert len(fields["MESSAGE"]) == len(fields["OOMGUARD_RULE"]) == 4096
    assert sink.lost == 0


@pytest.mark.parametrize("letter", ["ä", "→", "\U0001f4a5"])
def test_a_long_value_is_cut_between_characters(letter: str) -> None:
    """Of a message that is not UTF-8, journalctl prints only its size: no error of a policy could be read."""
    found = dict(parse_datagram(encode(LogEntry(STARTED, f"x{letter * 4096}", {}))))
    text = found["MESSAGE"].decode("utf-8")
    assert text == f"x{letter * (4095 // len(letter.encode()))}"


def test_without_a_journald_entries_are_counted_and_nothing_raises(
    tmp_path: Path, journal_sink: Callable[[Path], JournalSink]
) -> None:
    """And when it is there, they arrive: it is addressed anew each time."""
    path = tmp_path / "socket"
    sink = journal_sink(path)
    sink.write(LogEntry(STARTED, "one", {}))
    sink.write(LogEntry(STARTED, "two", {}))
    assert sink.lost == 2
    for _ in range(2):  # it comes, goes and comes again
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
            listener.bind(str(path))
            listener.settimeout(5)
            sink.write(LogEntry(STARTED, "three", {}))
            assert parse_datagram(listener.recv(65536))[0] == ("MESSAGE", b"three")
        path.unlink()
    assert sink.lost == 2


def test_a_journald_that_does_not_read_never_blocks(
    journald: socket.socket, tmp_path: Path, journal_sink: Callable[[Path], JournalSink]
) -> None:
    """What its queue does not take is counted."""
    sink = journal_sink(tmp_path / "socket")
    for _ in range(5000):
        sink.write(LogEntry(STARTED, "x" * 2000, {}))
    assert 0 < sink.lost < 5000


# Lines


def test_a_line_has_the_time_the_level_and_the_message() -> None:
    """Only warnings and errors say which they are."""
    stream = io.StringIO()
    sink = StreamSink(stream)
    sink.write(LogEntry(STARTED, "started", {"OOMGUARD_POLICY": "unseen"}))
    sink.write(LogEntry(DENIED, "denied → no", {}))
    first, second, end = stream.getvalue().split("\n")
    assert re.fullmatch(r"\d\d:\d\d:\d\d started", first)
    assert re.fullmatch(r"\d\d:\d\d:\d\d warning: denied → no", second)
    assert end == ""


def test_a_stream_that_takes_nothing_costs_entries_and_no_more() -> None:
    """A full disk, letters it has no bytes for, or a stream that was closed."""
    full = open("/dev/full", "w", encoding="utf-8")  # noqa: SIM115  # it is closed in between
    sink = StreamSink(full)
    sink.write(LogEntry(STARTED, "x", {}))
    assert sink.lost == 1
    with pytest.raises(OSError, match="No space left"):
        full.close()
    sink.write(LogEntry(STARTED, "x", {}))
    assert sink.lost == 2
    with open("/dev/null", "w", encoding="ascii") as narrow:
        sink = StreamSink(narrow)
        sink.write(LogEntry(STARTED, "→", {}))
        assert sink.lost == 1
        sink.write(LogEntry(STARTED, "->", {}))
        assert sink.lost == 1


@pytest.mark.parametrize(
    ("letter", "encoding"), [("x", "utf-8"), ("→", "utf-8"), ("→", "ascii"), ("\U0001f4a5", "latin-1")]
)
def test_a_pipe_that_nobody_reads_holds_up_nothing(letter: str, encoding: str) -> None:
    """A pager, or a container's log whose reader hangs: what comes meanwhile is lost, and counted."""
    theirs, ours = os.pipe()
    with (
        open(ours, "w", encoding=encoding, errors="backslashreplace") as stream,
        open(theirs, "rb", buffering=0) as reader,
    ):
        sink = StreamSink(stream)
        written = 0
        while not sink.lost:
            sink.write(LogEntry(STARTED, letter * 10_000, {}))
            written += 1
        reader.read(4096)
        sink.write(LogEntry(STARTED, "short", {}))
        assert (sink.lost, written > 10) == (1, True)


def test_stderr_is_taken_where_it_is_not_the_journals(monkeypatch: pytest.MonkeyPatch) -> None:
    """By JOURNAL_STREAM, which must name the very file that stderr is."""
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    assert isinstance(open_sink(), StreamSink)
    monkeypatch.setenv("JOURNAL_STREAM", "1:2")
    assert isinstance(open_sink(), StreamSink)


def test_the_journal_is_taken_where_stderr_is_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, close: list[JournalSink]
) -> None:
    """And where its socket is."""
    info = os.fstat(2)
    monkeypatch.setenv("JOURNAL_STREAM", f"{info.st_dev}:{info.st_ino}")
    monkeypatch.setattr("oomguard.report.journal.JOURNAL_SOCKET", str(tmp_path / "none"))
    assert isinstance(open_sink(), StreamSink)
    (tmp_path / "some").touch()
    monkeypatch.setattr("oomguard.report.journal.JOURNAL_SOCKET", str(tmp_path / "some"))
    sink = open_sink()
    assert isinstance(sink, JournalSink)
    close.append(sink)
