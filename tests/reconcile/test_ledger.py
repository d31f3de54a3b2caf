"""The ledger: whatever happens to its file or its writer, every value finds its way back."""

import errno
import json
import os
import resource
import signal
import stat
import subprocess
import sys
import tracemalloc
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fakeproc import FakeProc
from mounts import disk, fill
from oomguard.core.choices import Cause
from oomguard.core.entry import Entry
from oomguard.core.errors import OomguardError
from oomguard.core.policy import Policy, SysctlSetting
from oomguard.core.process import Identity, Process
from oomguard.core.protection import Protection
from oomguard.core.rule import Rule, Terms, Value
from oomguard.kernel.procfs import Procfs
from oomguard.reconcile.ledger import Ledger, _line, open_hosts_ledger, open_ledger, read_ledger
from oomguard.reconcile.once import reconcile_once
from oomguard.reconcile.reconciler import Reconciler
from oomguard.reconcile.state_folder import StateFolder, open_state_folder

BOOT = "fake-boot"
HEADER = _line(json.dumps({"version": 2, "boot_id": BOOT}).encode())


def line(text: str | bytes, boot: str = BOOT) -> bytes:
    """Return a line of the file as it is written in a boot."""
    return _line(text if isinstance(text, bytes) else text.encode(), zlib.crc32(boot.encode()))


def reopened(folder: StateFolder, boot: str = BOOT) -> Ledger:
    """Open the ledger as after a restart, with every process still there."""
    return open_ledger(folder, boot_id=boot, is_alive=lambda _: True)


def file(folder: StateFolder) -> Path:
    """Return where the ledger is."""
    return Path(folder.path) / "ledger"


def rule(value: int, *names: bytes) -> Rule:
    """Return a rule by name."""
    return Rule(0, names or (b"worker",), Terms(Value("exact", value), trust="name"), "p.yaml", 1)


# On file


def test_entries_outlive_the_process_that_made_them(folder: StateFolder) -> None:
    """Sysctls and processes, with and without the value set before."""
    ledger = reopened(folder)
    ledger.record("vm.swappiness", Entry(60, 10))
    ledger.record("vm.overcommit_kbytes", Entry(2**64 - 1, 0, 5))
    ledger.record(Identity(7, 2**60), Entry(-5, 300))
    ledger.record(Identity(8, 9), Entry(0, -1000, 0))
    ledger.close()
    again = reopened(folder)
    assert again.sysctls == {
        "vm.swappiness": Entry(60, 10),
        "vm.overcommit_kbytes": Entry(2**64 - 1, 0, 5),
    }
    assert again.processes == {Identity(7, 2**60): Entry(-5, 300), Identity(8, 9): Entry(0, -1000, 0)}
    assert again.ignored_lines == 0


def test_an_entry_is_of_one_process_and_not_of_its_pid() -> None:
    """The start time counts, too."""
    ledger = Ledger()
    ledger.record(Identity(7, 100), Entry(0, 5))
    assert ledger.entry(Identity(7, 100)) == Entry(0, 5)
    assert ledger.entry(Identity(7, 101)) is None


def test_what_is_forgotten_stays_forgotten(folder: StateFolder) -> None:
    """A sysctl that was put back is no entry after a restart."""
    ledger = reopened(folder)
    ledger.record("vm.swappiness", Entry(60, 10))
    ledger.strike("vm.swappiness")
    ledger.close()
    assert reopened(folder).sysctls == {}


def test_another_boot_begins_anew(folder: StateFolder) -> None:
    """Pids and sysctls of before mean nothing, and nothing of them is kept."""
    ledger = reopened(folder)
    ledger.record("vm.swappiness", Entry(60, 10))
    ledger.record(Identity(7, 1), Entry(0, 300))
    ledger.close()
    other = reopened(folder, boot="another")
    assert (other.sysctls, other.processes) == ({}, {})
    other.close()
    assert reopened(folder).sysctls == {}


def test_processes_that_are_gone_are_dropped_when_it_is_opened(folder: StateFolder) -> None:
    """Only those that still live have anything to get back."""
    ledger = reopened(folder)
    ledger.record(Identity(7, 1), Entry(0, 300))
    ledger.record(Identity(8, 1), Entry(0, 300))
    ledger.close()
    again = open_ledger(folder, boot_id=BOOT, is_alive=lambda identity: identity.pid == 8)
    assert again.processes.keys() == {Identity(8, 1)}


def test_what_was_protected_outlives_its_processes(folder: StateFolder) -> None:
    """Those may have descendants that nobody knows; one line each is enough for any number of processes."""
    ledger = reopened(folder)
    for since in (5, 3, 9):
        ledger.record_protection(-900, "cron.service", 0, since)
    ledger.record_protection(-500, "", -100, 7)
    size = file(folder).stat().st_size
    ledger.record_protection(-900, "cron.service", 0, 10)
    assert file(folder).stat().st_size == size
    ledger.close()
    expected = [(-900, "cron.service", Protection(0, 3)), (-500, "", Protection(-100, 7))]
    for _ in range(2):
        again = reopened(folder)
        assert list(again.protections) == expected
        assert again.ignored_lines == 0
        again.close()


@pytest.mark.parametrize(
    "row",
    [
        {"protected": "-900", "service": "", "is": [0, 1]},
        {"protected": -900, "service": None, "is": [0, 1]},
        {"protected": -900, "service": "", "is": [0]},
        {"protected": -900, "service": "", "is": [0, None]},
        {"protected": -900},
    ],
)
def test_a_protection_of_another_form_is_ignored(folder: StateFolder, row: dict[str, object]) -> None:
    """And counted; the rest is read."""
    ledger = reopened(folder)
    ledger._append_text(json.dumps(row).encode())
    ledger.record("vm.swappiness", Entry(60, 10))
    ledger.close()
    found = read_ledger(folder, boot_id=BOOT)
    assert (found.ignored_lines, len(found.protections)) == (1, 0)
    assert found.sysctls


def test_a_file_cut_anywhere_neither_raises_nor_invents(folder: StateFolder) -> None:
    """At every byte: what is read is what some prefix of its lines says."""
    ledger = reopened(folder)
    states: list[tuple[dict[str, Entry], dict[Identity, Entry]]] = [({}, {})]
    for change in range(4):
        ledger.record("vm.swappiness", Entry(60, change, change - 1))
        states.append((dict(ledger.sysctls), ledger.processes))
        ledger.record(Identity(100 + change, 77), Entry(change, 300))
        states.append((dict(ledger.sysctls), ledger.processes))
    ledger.strike("vm.swappiness")
    states.append((dict(ledger.sysctls), ledger.processes))
    ledger.close()
    whole = file(folder).read_bytes()
    for size in range(len(whole) + 1):
        file(folder).write_bytes(whole[:size])
        found = read_ledger(folder, boot_id=BOOT)
        lines = max(whole[:size].count(b"\n") - 1, 0)
        assert (found.sysctls, found.processes) == states[lines]
        in_header = 0 < size < whole.index(b"\n")
        assert found.ignored_lines == int(in_header)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=30),
            st.from_type(object).map(lambda thing: json.dumps(str(thing)).encode()),
            st.recursive(
                st.none() | st.integers() | st.text(max_size=3) | st.floats() | st.booleans(),
                lambda inner: (
                    st.lists(inner, max_size=4)
                    | st.dictionaries(st.sampled_from(["pid", "start", "entry", "sysctl"]), inner, max_size=4)
                ),
                max_leaves=8,
            ).map(lambda thing: json.dumps(thing).encode()),
        ),
        max_size=5,
    )
)
def test_any_rubbish_between_the_lines_is_counted_and_passed_over(
    folder: StateFolder, rubbish: list[bytes]
) -> None:
    """For any bytes and any JSON, even with a checksum; what is read is typed, and the good line is found."""
    texts = [text.replace(b"\n", b"") for text in rubbish]
    good = line('{"pid":7,"start":1,"entry":[0,300,null]}')
    lines = [HEADER, *(line(text) for text in texts), *(text + b"\n" for text in texts), good]
    file(folder).write_bytes(b"".join(lines))
    found = read_ledger(folder, boot_id=BOOT)
    assert found.processes[Identity(7, 1)] == Entry(0, 300)
    for process, entry in found.processes.items():
        assert {*map(type, process), type(entry.original), type(entry.given)} == {int}
    assert len(texts) <= found.ignored_lines + len(found.processes) + len(found.sysctls) <= len(lines)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '"entry"',
        '{"pid":1,"start":1}',
        '{"pid":1,"start":1,"entry":[]}',
        '{"sysctl":"vm.swappiness","entry":[]}',
        '{"sysctl":"vm.swappiness","entry":[null]}',
        '{"pid":1,"start":1,"entry":[1]}',
        '{"pid":1,"start":1,"entry":[1,2,3,4,5]}',
        '{"pid":1,"start":1,"entry":["1","2",null]}',
        '{"pid":1,"start":1,"entry":[1.5,2,null]}',
        '{"pid":1,"start":1,"entry":[true,2,null]}',
        '{"pid":1,"start":1,"entry":[null,2,3]}',
        '{"pid":"1","start":1,"entry":[1,2,null]}',
        '{"pid":[1],"start":1,"entry":[1,2,null]}',
        '{"pid":1,"start":null,"entry":[1,2,null]}',
        '{"pid":1,"start":1,"entry":{"original":1,"given":2}}',
        '{"sysctl":"vm.swappiness","entry":[1]}',
        '{"sysctl":"vm.swappiness","entry":"12"}',
        '{"sysctl":"vm.of_another_version","entry":[1,2]}',
        '{"sysctl":["vm.swappiness"],"entry":[1,2]}',
        "[" * 100_000,
    ],
    ids=lambda text: text[:60],
)
def test_a_corrupt_line_is_counted(folder: StateFolder, text: str) -> None:
    """Even with its checksum; those beside it are read."""
    good = line('{"sysctl": "vm.swappiness", "entry": [60, 10, null]}')
    file(folder).write_bytes(HEADER + line(text) + good)
    found = read_ledger(folder, boot_id=BOOT)
    assert (found.sysctls, found.processes) == ({"vm.swappiness": Entry(60, 10)}, {})
    assert found.ignored_lines == 1


@pytest.mark.parametrize(
    "header",
    [_line(b'{"version": 2, "boot_id": "x"}'), b'{"version": 1, "boot_id": "x"}\n'],
)
def test_a_file_of_another_boot_is_as_none(folder: StateFolder, header: bytes) -> None:
    """Its processes have ended, and its sysctls were not set in this boot."""
    text = '{"pid":7,"start":1,"entry":[0,300,null]}'
    file(folder).write_bytes(header + line(text) + text.encode() + b"\n")
    ledger = reopened(folder)
    assert (ledger.processes, ledger.ignored_lines) == ({}, 0)


@pytest.mark.parametrize(
    "header",
    [
        _line(b'{"version": 3, "boot_id": "fake-boot"}'),
        _line(b'{"version": 1, "boot_id": "fake-boot"}'),
        b'{"version": 2, "boot_id": "fake-boot"}\n',
    ],
)
def test_a_file_of_an_unknown_version_is_kept_and_missed(folder: StateFolder, header: bytes) -> None:
    """A later version may be installed again: only it can restore these originals."""
    text = '{"pid":7,"start":1,"entry":[0,300,null]}'
    file(folder).write_bytes(content := header + line(text))
    ledger = reopened(folder)
    assert (ledger.processes, ledger.ignored_lines) == ({}, 2)
    assert file(folder).with_name("ledger.damaged").read_bytes() == content


def test_a_file_without_checksums_is_read_once_more(folder: StateFolder) -> None:
    """That was version 1: an upgraded daemon loses no original, and writes the file anew with checksums."""
    old = f'{{"version": 1, "boot_id": "{BOOT}"}}\n{{"pid":7,"start":1,"entry":[0,300,null,5,1]}}\n'
    old += '{"sysctl": "vm.swappiness", "entry": [60, 10, null, 0, false]}\n'
    file(folder).write_text(old)
    entries = ({Identity(7, 1): Entry(0, 300, None, 5, moved_floor=True)}, {"vm.swappiness": Entry(60, 10)})
    ledger = reopened(folder)
    ledger.close()
    assert (ledger.processes, ledger.sysctls) == entries
    assert file(folder).read_bytes().startswith(HEADER)
    again = reopened(folder)
    assert (again.processes, again.sysctls, again.ignored_lines) == (*entries, 0)


def test_no_flipped_bit_makes_another_entry(folder: StateFolder) -> None:
    """Of any one in the file: what is read is what was written, and at most two lines are lost."""
    ledger = reopened(folder)
    written: dict[int | str, list[Entry]] = {"vm.swappiness": [], "vm.overcommit_kbytes": [], 7: [], 8: []}
    for value in range(2):
        for target, entries in written.items():
            entries.append(Entry(100 + value, 300 + value, 5, 12345 + value))
            if isinstance(target, int):
                ledger.record(Identity(target, 1000), entries[-1])
            else:
                ledger.record(target, entries[-1])
    ledger.close()
    whole = file(folder).read_bytes()
    for position in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[position // 8] ^= 1 << position % 8
        found = Ledger(boot_id=BOOT)
        found._read(bytes(damaged))
        assert found.processes.keys() == {Identity(7, 1000), Identity(8, 1000)}
        assert found.sysctls.keys() == {"vm.swappiness", "vm.overcommit_kbytes"}
        read: dict[int | str, Entry] = {one.pid: entry for one, entry in found.processes.items()}
        read.update(found.sysctls.items())
        assert all(entry in written[target] for target, entry in read.items())
        lost = sum(entry != written[target][-1] for target, entry in read.items())
        assert lost <= 2
        is_last_newline = position // 8 == len(whole) - 1
        assert found.ignored_lines in ((0,) if is_last_newline else (1, 2))


def test_a_process_that_is_struck_out_stays_struck_out(folder: StateFolder) -> None:
    """Restored, it may choose by itself what it was given: no later run takes that away."""
    ledger = reopened(folder)
    ledger.record(Identity(7, 1), Entry(0, 300))
    ledger.strike(Identity(7, 1))
    ledger.strike(Identity(8, 1))
    ledger.close()
    again = reopened(folder)
    assert (again.processes, again.ignored_lines) == ({}, 0)


def test_the_file_is_bounded_between_two_passes(folder: StateFolder) -> None:
    """However often one value is written."""
    ledger = reopened(folder)
    longest = 0
    for number in range(20_000):
        ledger.record(Identity(7, 1), Entry(0, number))
        longest = max(longest, file(folder).stat().st_size)
    ledger.close()
    assert longest < 500_000
    assert reopened(folder).processes == {Identity(7, 1): Entry(0, 19_999)}


def test_an_intent_that_is_repeated_is_not_confirmed_by_making_the_file_shorter(folder: StateFolder) -> None:
    """A write that the kernel denied because of the floor is tried again: until then nothing was written."""
    ledger = reopened(folder)
    process, intent = Identity(7, 1), Entry(0, -900, 300)
    ledger.intend(process, intent)
    for pid in range(10_000, 20_000):
        ledger._append_text(b'{"pid":%d,"start":1,"entry":null}' % pid, may_rewrite=False)
    ledger._unconfirmed = process
    ledger.intend(process, intent._replace(moved_floor=True))
    assert file(folder).read_bytes().count(b"\n") > 10_000
    ledger.close()


def test_lines_about_what_is_no_more_are_compacted(folder: StateFolder) -> None:
    """The file stays in proportion to what is in force."""
    ledger = reopened(folder)
    for number in range(10_000):
        ledger.record(Identity(number + 2, 1), Entry(0, 300))
        if number >= 3:
            ledger.forget_process(number + 2)
        ledger.compact()
    assert file(folder).read_bytes().count(b"\n") <= 4200
    ledger.record(Identity(50_000, 1), Entry(1, 2))
    ledger.close()
    again = open_ledger(folder, boot_id=BOOT, is_alive=lambda identity: identity.pid in {2, 3, 4, 50_000})
    assert {one.pid for one in again.processes} == {2, 3, 4, 50_000}
    assert file(folder).read_bytes().count(b"\n") == 5


def test_to_write_the_whole_file_takes_no_more_than_its_size(folder: StateFolder) -> None:
    """It happens at any moment, in locked memory: lists of 10,000 processes took four times as much."""
    ledger = Ledger()
    for pid in range(10_000, 20_000):
        ledger.record(Identity(pid, 1_000_000 + pid), Entry(0, 300, since_ticks=1))
    ledger._folder = folder
    tracemalloc.start()
    try:
        ledger._rewrite()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    ledger.close()
    assert peak < 2 * len(folder.read("ledger") or b"")
    assert read_ledger(folder, boot_id="").processes == ledger.processes


def test_only_what_was_lowered_is_protected() -> None:
    """Users can have any number of raised processes: those yield their watches."""
    ledger = Ledger()
    for pid, value in ((10, -500), (11, 300)):
        ledger.record(Identity(pid, 1), Entry(0, value))
    assert [ledger.protects(pid) for pid in (10, 11, 12)] == [True, False, False]


@pytest.mark.parametrize("is_written", [True, False])
def test_after_a_crash_the_values_of_the_host_tell_what_was_written(
    proc: FakeProc, procfs: Procfs, folder: StateFolder, is_written: bool
) -> None:
    """The ledger says only what was to be written last."""
    process = Identity(10, 1)
    proc.process(Process(process, b"x", oom_score_adj=300 if is_written else 0))
    open_hosts_ledger(folder, procfs).intend(process, Entry(0, 300))
    again = open_hosts_ledger(folder, procfs)
    assert again.processes == ({process: Entry(0, 300)} if is_written else {})
    again.close()


def test_the_file_is_its_owners_alone(folder: StateFolder) -> None:
    """Who may write it decides what restore writes."""
    ledger = reopened(folder)
    ledger.close()
    assert stat.S_IMODE(file(folder).stat().st_mode) == 0o600


def test_reading_it_needs_no_right_to_write_and_changes_nothing(folder: StateFolder) -> None:
    """`plan` looks at the ledger of a running daemon."""
    ledger = reopened(folder)
    ledger.record(Identity(7, 1), Entry(0, 300))
    before = file(folder).read_bytes()
    reader = read_ledger(folder, boot_id=BOOT)
    reader.record(Identity(8, 1), Entry(0, 300))
    reader.forget_process(7)
    reader.compact()
    assert file(folder).read_bytes() == before


# Ahead of the write


def keeping(proc: FakeProc, procfs: Procfs, folder: StateFolder, policy: Policy) -> Reconciler:
    """Return a reconciler over two processes and a sysctl."""
    for pid in (10, 11):
        proc.process(Process(Identity(pid, pid), b"worker", oom_score_adj=pid))
    proc.sysctl("vm.swappiness", 60)
    return Reconciler(policy, reopened(folder), procfs)


POLICY = Policy(sysctls=(SysctlSetting("vm.swappiness", 10, "p.yaml", 1),), rules=(rule(300),))


def test_the_line_is_on_file_before_the_value_is_written(
    proc: FakeProc, procfs: Procfs, folder: StateFolder
) -> None:
    """A crash between the two leaves a line and no change."""
    reconciler = keeping(proc, procfs, folder, POLICY)
    seen = []
    for outcome in reconciler.everything("policy", 0.0):
        known = read_ledger(folder, boot_id=BOOT)
        seen.append(outcome.result)
        assert len(known.sysctls) + len(known.processes) == len(seen)
    assert seen == ["applied"] * 3


def test_a_change_that_is_denied_again_and_again_keeps_the_start(
    proc: FakeProc, procfs: Procfs, folder: StateFolder
) -> None:
    """What the process had of us before stays ours, however often the next value is refused."""
    reconciler = keeping(proc, procfs, folder, POLICY)
    list(reconciler.everything("policy", 0.0))
    reconciler.adopt(Policy(rules=(rule(400),)))
    with pytest.MonkeyPatch.context() as patch:  # a tree refuses nothing, least of all to root
        patch.setattr("oomguard.kernel.procfs.ProcessHandle.write_oom_score_adj", refuse)
        for now in (0.0, 60.0, 120.0):
            results = [outcome.result for outcome in reconciler.everything("policy", now)]
            assert results[-2:] == ["denied", "denied"]
    reconciler.adopt(Policy())
    list(reconciler.everything("restore", 0.0))
    assert proc.oom_score_adjs() == {10: 10, 11: 11}


def refuse(*_: object) -> None:
    """Answer as the kernel does below the floor."""
    raise PermissionError(errno.EACCES, "Permission denied")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount 64 KiB."""
    with disk(tmp_path / "small", kib=64) as place:
        yield place


def test_what_descendants_inherit_is_on_file_before_its_value_is_set(
    folder: StateFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if there was no room for the line at first."""
    ledger = reopened(folder)
    real = os.write

    def full(fd: int, text: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    for _ in range(2):
        with pytest.raises(OSError, match="No space"):
            ledger.record_protection(-900, "cron.service", 0, 7)
    monkeypatch.setattr(os, "write", real)
    ledger.record_protection(-900, "cron.service", 0, 7)
    assert [*read_ledger(folder, boot_id=BOOT).protections] == [*ledger.protections]
    ledger.compact()
    assert [*read_ledger(folder, boot_id=BOOT).protections] == [*ledger.protections] != []


def test_on_a_full_disk_nothing_is_changed_without_its_line(
    proc: FakeProc, procfs: Procfs, small_disk: Path
) -> None:
    """What fits has its line and its value, what does not has neither, and later all have both."""
    folder = open_state_folder(str(small_disk / "state"))
    assert folder is not None
    for pid in range(10, 210):
        proc.process(Process(Identity(pid, pid), b"worker", oom_score_adj=1))
    reconciler = Reconciler(POLICY, reopened(folder), procfs)
    fill(small_disk)
    outcomes = list(reconciler.everything("policy", 0.0))
    denied = [outcome for outcome in outcomes if outcome.result == "denied"]
    assert denied
    assert {(outcome.errno, bool(outcome.reason)) for outcome in denied} == {(errno.ENOSPC, True)}
    known = read_ledger(folder, boot_id=BOOT)
    assert known.ignored_lines == 0
    valued = {pid for pid, value in proc.oom_score_adjs().items() if value == 300}
    assert 0 < len(valued) < 200
    assert valued <= {one.pid for one in known.processes}

    (small_disk / "filler").unlink()
    list(reconciler.everything("policy", 60.0))
    assert set(proc.oom_score_adjs().values()) == {300}
    known = read_ledger(folder, boot_id=BOOT)
    assert known.ignored_lines == 0
    assert len(known.processes) == 200

    reconciler.adopt(Policy())
    fill(small_disk)
    list(reconciler.everything("restore", 0.0))  # giving back needs no line
    assert set(proc.oom_score_adjs().values()) == {1}
    reconciler.ledger.close()
    folder.close()


def test_a_full_disk_does_not_keep_a_restore_from_starting(
    proc: FakeProc, procfs: Procfs, small_disk: Path
) -> None:
    """It has all it needs on file. What it restored is not restored again when there is room."""
    place = str(small_disk / "state")
    proc.process(Process(Identity(10, 10), b"worker", oom_score_adj=1))

    def once(policy: Policy, cause: Cause) -> list[int]:
        own = Procfs(procfs.root)
        done = reconcile_once(policy, cause, own, place, promised_peak=lambda: None)
        return [outcome.change.after for outcome in done.outcomes if outcome.result == "applied"]

    assert once(POLICY, "policy") == [300]
    fill(small_disk)
    assert once(Policy(), "restore") == [1]
    assert proc.oom_score_adjs() == {10: 1}
    (small_disk / "filler").unlink()
    assert once(Policy(), "restore") == []
    assert proc.oom_score_adjs() == {10: 1}


@pytest.mark.parametrize("boots", [(BOOT, "", BOOT), ("", BOOT, BOOT), ("", "", BOOT), (BOOT, "", "")])
def test_nothing_is_lost_where_the_boot_is_not_known(folder: StateFolder, boots: tuple[str, ...]) -> None:
    """With ProcSubset=pid in the unit, /proc does not tell; a reboot empties the folder anyway."""
    process, entry = Identity(10, 10), Entry(1, 300)
    first, *others = boots
    ledger = reopened(folder, first)
    ledger.record(process, entry)
    ledger.close()
    for boot in others:
        assert read_ledger(folder, boot_id=boot).processes == {process: entry}
        reopened(folder, boot).close()
    assert read_ledger(folder, boot_id="another").processes == {}


def test_a_ledger_that_cannot_be_opened_lets_nothing_begin(small_disk: Path) -> None:
    """The error says why it matters."""
    folder = open_state_folder(str(small_disk / "state"))
    assert folder is not None
    fill(small_disk)
    with pytest.raises(OomguardError, match=r"ledger: cannot be written: No space left") as caught:
        reopened(folder)
    assert "oomguard changes nothing" in caught.value.hint
    assert sorted(os.listdir(folder.path)) == []
    folder.close()


def test_a_line_that_fits_only_half_is_taken_back(folder: StateFolder) -> None:
    """The next line is not glued to it. A limit on the file's size cuts a write as a full disk does."""
    script = f"""
import resource, signal
from oomguard.core.choices import Cause
from oomguard.core.entry import Entry
from oomguard.core.process import Identity
from oomguard.core.protection import Protection
from oomguard.reconcile.ledger import open_ledger
from oomguard.reconcile.state_folder import open_state_folder
folder = open_state_folder({folder.path!r})
ledger = open_ledger(folder, boot_id={BOOT!r}, is_alive=lambda _: True)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
ledger.record(Identity(7, 1), Entry(0, 300))
import os
size = os.stat({folder.path!r} + "/ledger").st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, resource.RLIM_INFINITY))
try:
    ledger.record(Identity(8, 1), Entry(0, 300))
except OSError as error:
    print(error.errno)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
ledger.record(Identity(9, 1), Entry(0, 300))
"""
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout == f"{errno.ENOSPC}\n"
    found = read_ledger(folder, boot_id=BOOT)
    assert ({one.pid for one in found.processes}, found.ignored_lines) == ({7, 9}, 0)


# Against a real kill


CHANGER = """
import itertools, sys
from oomguard.core.policy import Policy, SysctlSetting
from oomguard.core.rule import Rule, Terms, Value
from oomguard.reconcile.ledger import open_ledger
from oomguard.reconcile.once import reconcile_once
from oomguard.reconcile.reconciler import Reconciler
from oomguard.reconcile.state_folder import open_state_folder
sys.path.insert(0, sys.argv[3])
from fakeproc import FakeKernel
procfs = FakeKernel(sys.argv[1])
folder = open_state_folder(sys.argv[2])
ledger = open_ledger(folder, boot_id=procfs.boot_id(), is_alive=procfs.is_alive)
reconciler = Reconciler(Policy(), ledger, procfs)
for number in itertools.count():
    value = 100 + number % 7
    names = (b"worker",) if number % 3 else (b"work*", b"other")
    rule = Rule(0, names, Terms(Value("exact", value), trust="name"), "p.yaml", 1)
    settings = (SysctlSetting("vm.swappiness", value, "p.yaml", 1),) if number % 2 else ()
    settings += (SysctlSetting("vm.overcommit_kbytes", value, "p.yaml", 1),) if number % 5 else ()
    reconciler.adopt(Policy(rules=(rule,), sysctls=settings))
    for _ in reconciler.everything("policy", 0.0):
        pass
    if number == 3:
        print(flush=True)
"""


@pytest.mark.parametrize("milliseconds", [0, 3, 7, 13, 29, 53])
def test_a_kill_at_any_moment_leaves_everything_to_be_restored(
    proc: FakeProc, procfs: Procfs, folder: StateFolder, milliseconds: int
) -> None:
    """A real process changes values without end, is killed, and a restore puts all of them back.

    Between the truncation and the write of a file it is empty, which the kernel's never are; such
    a one is given the value that the ledger says it was about to get.
    """
    for pid in range(10, 16):
        proc.process(Process(Identity(pid, pid), b"worker", oom_score_adj=pid))
    proc.process(Process(Identity(20, 20), b"other", oom_score_adj=20))
    for name, value in {"vm.swappiness": 60, "vm.overcommit_ratio": 50, "vm.overcommit_kbytes": 0}.items():
        proc.sysctl(name, value)
    start = (proc.oom_score_adjs(), proc.sysctls())
    tests = str(Path(__file__).parent.parent)
    with subprocess.Popen(
        [sys.executable, "-c", CHANGER, str(proc.root), folder.path, tests], stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(milliseconds / 1000)
        child.send_signal(signal.SIGKILL)
    ledger = reopened(folder)
    for process, entry in ledger.processes.items():
        mend(proc.root / str(process.pid) / "oom_score_adj", entry.given)
    for name, entry in ledger.sysctls.items():
        mend(proc.root / "sys" / name.replace(".", "/"), entry.given)
    list(Reconciler(Policy(), ledger, procfs).everything("restore", 0.0))
    assert (proc.oom_score_adjs(), proc.sysctls()) == start


def mend(file: Path, value: int) -> None:
    """Finish a write that was cut between truncating and writing."""
    if not file.read_bytes():
        file.write_text(f"{value}\n")


def test_limits_of_this_process_are_as_they_were() -> None:
    """No test above left the size limit on."""
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


@pytest.mark.parametrize("header", ["", "{}", "[]", "null", "\x00", "garbage", "00000000 {}"])
def test_a_damaged_header_costs_no_entry(folder: StateFolder, header: str) -> None:
    """Each line tells of which boot it is; the file is kept for a second look."""
    stale = line('{"pid":8,"start":1,"entry":[0,300,null]}', "another boot")
    text = header.encode() + b"\n" + stale + line('{"pid":7,"start":1,"entry":[0,300,null]}')
    file(folder).write_bytes(text)
    ledger = open_ledger(folder, boot_id=BOOT, is_alive=lambda _: True)
    ledger.close()
    assert ledger.ignored_lines == 2
    assert ledger.processes == {Identity(7, 1): Entry(0, 300)}
    assert folder.read("ledger.damaged") == text


def test_a_removed_file_is_written_again_soon_after_the_next_change(folder: StateFolder) -> None:
    """Or a change would have been made that nobody could take back."""
    ledger = open_ledger(folder, boot_id=BOOT, is_alive=lambda _: True)
    ledger.record(Identity(7, 1), Entry(0, 300))
    folder.remove("ledger")
    ledger.record(Identity(8, 1), Entry(0, 300))
    ledger.flush()
    assert read_ledger(folder, boot_id=BOOT).processes.keys() == {Identity(7, 1), Identity(8, 1)}
    ledger.close()


def test_that_a_value_was_written_is_on_file_with_the_next_line_or_soon(folder: StateFolder) -> None:
    """One line less for each process; a crash before leaves an intent, and the value shows what it was."""
    ledger = open_ledger(folder, boot_id=BOOT, is_alive=lambda _: True)

    def on_file() -> dict[int, bool]:
        return {
            one.pid: entry.is_written for one, entry in read_ledger(folder, boot_id=BOOT).processes.items()
        }

    for pid in (7, 8):
        ledger.intend(Identity(pid, 1), Entry(0, 300))
    assert on_file() == {7: True, 8: False}
    ledger.flush()
    assert on_file() == {7: True, 8: True}
    ledger.close()


def test_a_line_that_could_not_be_written_comes_before_the_next(folder: StateFolder) -> None:
    """The next line would confirm an intent that was taken back, and a restore leave the value alone."""
    ledger = open_ledger(folder, boot_id=BOOT, is_alive=lambda _: True)
    denied, before = Identity(7, 1), Entry(0, 300)
    ledger.record(denied, before)
    ledger.record(denied, Entry(0, 500, given_before=300, is_written=False))
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file(folder).stat().st_size, hard))
    try:
        ledger.set_entry(denied, before)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    ledger.record(Identity(8, 1), Entry(0, 300, is_written=False))
    known = read_ledger(folder, boot_id=BOOT).entry(denied)
    ledger.close()
    assert known == before
