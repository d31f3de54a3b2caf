"""`oomguard postmortem`: from any log to what was killed and why, and what would have been."""

import bz2
import gzip
import json
import lzma
import os
import re
import select
import shutil
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import hostile_logs
import memcg
import oom_formats as formats
from cpu import LENGTH, cpu_bound, ordinary_work, takes_at_most
from oomguard.__main__ import main
from oomguard.core.sample import Holder, Left, Sample
from oomguard.kernel.dev_kmsg import open_kernel_log, records
from oomguard.reconcile.flight_recorder import Recorder
from oomguard.reconcile.state_folder import StateFolder
from oomguard.report.postmortem_table import ListRow, print_list

REPORTS = Path(__file__).parent.parent / "reports"
HOST = str(REPORTS / "6.12-host.txt")
VALUE = str(REPORTS / "6.18-memcg-value-decides.txt")

Postmortem = Callable[..., tuple[int, str, str]]


@pytest.fixture
def postmortem(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Postmortem:
    """Return what runs the verb."""
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.delenv("COLUMNS", raising=False)

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["oomguard", "postmortem", *arguments])
        code = main()
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture
def policy(tmp_path: Path) -> Callable[[str], str]:
    """Return what writes a policy of these rules."""

    def write(rules: str) -> str:
        path = tmp_path / "policy.yaml"
        path.write_text(f"rules:\n{rules}")
        path.chmod(0o644)
        return str(path)

    return write


def words(text: str) -> str:
    """Return text without its line breaks."""
    return " ".join(text.split())


def test_one_report_is_explained_in_words_and_then_as_a_table(postmortem: Postmortem) -> None:
    """Which process, why that one, which was next: in 80 columns, plain without a terminal."""
    code, out, err = postmortem(VALUE)
    assert (code, err) == (0, "")
    assert "\x1b" not in out
    assert max(map(len, out.splitlines())) <= 80
    assert out.startswith("#1  cache-worker[16420] was killed: cgroup /oom-report reached its limit of")
    shown = words(out)
    assert "The cgroup used 64.0 MiB of 64.0 MiB." in shown
    assert (
        "Next db-server[16419] (38.2 MiB, oom_score_adj 0): its badness was 15.3 MiB lower. Without" in shown
    )
    assert "Without oom_score_adj, it would have been killed instead." in shown
    rows = [line.split() for line in out.partition("SCORE\n")[2].splitlines()[1:]]
    assert [row[-6 if row[0] != "†" else 3] for row in rows] == [
        "cache-worker",
        "db-server",
        "report-gen",
    ]


@pytest.mark.parametrize("columns", [60, 72, 80, 120])
def test_numbers_are_whole_on_any_screen(
    postmortem: Postmortem, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    """The bars go first where there is little room."""
    monkeypatch.setenv("COLUMNS", str(columns))
    _, out, _ = postmortem(HOST)
    assert max(map(len, out.splitlines())) <= columns
    (row,) = [line.split() for line in out.splitlines() if line.startswith("†")]
    assert row[1:5] == ["1", "356", "python3", "0"]
    assert row[-1] == "130.4%"


def test_policy_tells_who_would_have_died(postmortem: Postmortem, policy: Callable[[str], str]) -> None:
    """The same memory, other values: in words, in the table and in the document."""
    path = policy("  - {name: db-server, oom_score_adj: 900}\n  - {name: cache-worker, oom_score_adj: 0}\n")
    _, out, _ = postmortem("--policy", path, VALUE)
    assert "oom_score_adj 900, name=db-server) would have been killed instead" in words(out)
    assert "0→900" in out
    _, out, _ = postmortem("--policy", path, "--json", VALUE)
    (report,) = json.loads(out)["reports"]
    assert report["policy"]["result"] == "other"
    assert report["policy"]["victims"][0]["comm"] == "db-server"
    assert report["policy"]["victims"][0]["source"] == f"{path}:2"


def test_a_policy_from_standard_input_is_called_as_everywhere(
    postmortem: Postmortem, stdin: Callable[[bytes], None]
) -> None:
    """In words and in the document."""
    text = b"rules: [{name: db-server, oom_score_adj: 900}]\n"
    stdin(text)
    _, out, _ = postmortem("--policy", "-", VALUE)
    assert "Under <stdin>, db-server[16419] (" in words(out)
    stdin(text)
    _, out, _ = postmortem("--policy", "-", "--json", VALUE)
    assert json.loads(out)["reports"][0]["policy"]["policy"] == "<stdin>"


def test_policy_that_is_not_valid_is_refused(postmortem: Postmortem, policy: Callable[[str], str]) -> None:
    """As everywhere, with its place and exit code."""
    code, _, err = postmortem("--policy", policy("  - {name: a, oom_score_adj: 2000}\n"), VALUE)
    assert code == 78
    assert "2:30" in err


def test_many_reports_are_a_list_and_the_last_in_full(postmortem: Postmortem) -> None:
    """A line for each, and how to see another one."""
    path = str(REPORTS / "6.18-memcg-rate-limited.txt")
    _, out, _ = postmortem(path)
    assert max(map(len, out.splitlines())) <= 80
    listed = [line for line in out.splitlines() if "burst[" in line and line[:2].strip().isdigit()]
    assert all("/oom-report" in line or "a cgroup" in line for line in listed)
    assert [int(line.split()[0]) for line in listed] == [*range(1, 15)]
    assert "#14  " in out
    assert "3 reports before this one, because the kernel prints at most ten in five seconds" in words(out)
    _, out, _ = postmortem("--report", "12", path)
    assert out.startswith("#12  ")
    _, out, _ = postmortem("--all", path)
    assert [line.split()[0] for line in out.splitlines() if line.startswith("#")] == [
        f"#{number}" for number in range(1, 15)
    ]
    for number in ("0", "15"):
        for how in ([], ["--json"]):
            code, out, err = postmortem("--report", number, *how, path)
            assert (code, out) == (1, "")
            assert f"no report {number}" in err
            assert "14 reports" in err


def test_pipe_that_does_not_block_is_read_to_its_end(
    postmortem: Postmortem, stdin: Callable[[bytes], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another user of the pipe set that, and nothing is in it yet."""
    stdin(b"")
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.dup2(reading, 0)
    os.close(reading)
    waiting, parts = select.select, [b"Out of memory: Kil", b"led process 7 (a) total-vm:5kB\n", b""]

    def write_and_wait(*files: Any) -> Any:
        if part := parts.pop(0):
            os.write(writing, part)
        else:
            os.close(writing)
        return waiting(*files)

    monkeypatch.setattr(select, "select", write_and_wait)
    code, out, _ = postmortem("-")
    assert (code, out[:14], parts) == (0, "#1  a[7] was k", [])


@pytest.mark.parametrize("how", [[], ["--json"]])
def test_missing_log_is_the_reason_for_a_missing_report(postmortem: Postmortem, how: list[str]) -> None:
    """Not that the log has none."""
    code, out, err = postmortem("--report", "2", *how, "missing.log", HOST)
    assert (code, out) == (1, "")
    assert err.startswith("oomguard: missing.log: No such file or directory")


POD = (
    "/kubepods.slice/kubepods-burstable.slice/"
    "kubepods-burstable-pod5931aa75_4603_4e65_b552_7c71cf55cfb5.slice"
)
CONTAINER = f"{POD}/cri-containerd-{'25a38b5b8d556d79' * 4}.scope"


def pod_report(when: str = "Oct 12 19:00:20 aks-nodepool1-24207654-vmss000001 kernel: ") -> str:
    """Return the report of a pod at its limit."""
    lines = formats.GROUP_5_15.replace("/app.slice/web.service", CONTAINER).replace("/app.slice", POD)
    return "".join(f"{when}{line}\n" for line in lines.splitlines())


def test_long_path_stands_once_and_unbroken(postmortem: Postmortem, tmp_path: Path) -> None:
    """The words name the pod and the container; the path is alone on its line, to be copied."""
    log = tmp_path / "log"
    log.write_text(pod_report())
    _, out, _ = postmortem(str(log))
    assert out.startswith(
        "#1  worker[900] and 1 more were killed: pod 5931aa75 reached its limit of\n    64.0 MiB.\n"
        "    Oct 12 19:00:20, host aks-nodepool1-24207654-vmss000001, Linux 5.15.0-1\n"
    )
    assert out.count("kubepods") == CONTAINER.count("kubepods")
    assert out.splitlines().count(CONTAINER) == 1
    assert max(len(line) for line in out.splitlines() if line != CONTAINER) <= 80
    assert "memory.oom.group is set on pod 5931aa75 (container 25a38b5b)" in words(out)


def test_list_has_room_for_wide_names(capsys: pytest.CaptureFixture[str]) -> None:
    """A cut pid is another one."""
    row = ListRow(("1", "10-12 19:01:20", "日本語名前[4001234]", "22M", "0", "/a" * 40, "h", ""))
    print_list([row, row], has_policy=False)
    assert capsys.readouterr().out.count("日本語名前[4001234]  22M") == 2


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_list_keeps_what_was_killed_on_any_screen(
    postmortem: Postmortem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    """Number, process and RAM are whole; WHERE is the unit or pod, and gives way with HOST."""
    log = tmp_path / "log"
    report = "".join(
        f"2026-10-12T19:00:20.1234+02:00 db1 kernel: {line}\n"
        for line in formats.host_report(formats.KERNELS[-1])
    )
    log.write_text(pod_report() + report)
    monkeypatch.setenv("COLUMNS", str(columns))
    _, out, _ = postmortem(str(log))
    heading, _, pod, host, *_ = out.splitlines()
    assert max(map(len, (heading, pod, host))) <= columns
    assert heading.split()[:4] == ["#", "WHEN", "KILLED", "RAM"]
    assert pod.split()[:7] == ["1", "Oct", "12", "19:00:20", "worker[900]", "+1", "47M"]
    assert host.split()[:3] == ["2", "10-12", "19:00:20"]
    assert "report (new) x[1377]  156M" in host
    assert pod.count("…") <= 1
    assert ("pod 5931aa75" in pod) == ("the host" in host) == (columns >= 80)


def test_two_hundred_reports_of_all_kernels_are_told_in_one_run(
    postmortem: Postmortem, tmp_path: Path, policy: Callable[[str], str]
) -> None:
    """In one file, each replayed under a policy, and nothing lost in the list."""
    log = tmp_path / "kern.log"
    reports = ["\n".join(formats.host_report(kernel)) for kernel in formats.KERNELS] * 34
    with log.open("w") as file:
        for number, report in enumerate(reports[:200]):
            prefix = f"Nov  2 10:{number // 60:02}:{number % 60:02} db1 kernel:"
            file.writelines(f"{prefix} {line}\n" for line in report.splitlines())
    path = policy("  - {name: postgres, oom_score_adj: 900}\n")
    code, out, _ = postmortem("--policy", path, str(log))
    assert code == 0
    assert "and 150 earlier reports." in out
    assert out.count("postgres[903]") >= 50
    _, out, _ = postmortem("--policy", path, "--json", str(log))
    document = json.loads(out)
    assert len(document["reports"]) == 200
    assert {report["policy"]["result"] for report in document["reports"]} == {"other"}


@pytest.mark.parametrize(
    "pack", [gzip.compress, lzma.compress, bz2.compress, lambda raw: lzma.compress(raw, preset=9)]
)
def test_rotated_logs_are_read_as_they_are(
    postmortem: Postmortem, tmp_path: Path, pack: Callable[[bytes], bytes]
) -> None:
    """Whatever logrotate packed them with."""
    log = tmp_path / "kern.log.2.gz"
    log.write_bytes(pack(Path(HOST).read_bytes()))
    _, out, _ = postmortem(str(log))
    assert out.startswith("#1  python3[356] was killed: the host ran out of memory.")


def test_an_xz_file_of_several_streams_is_read_to_its_end(postmortem: Postmortem, tmp_path: Path) -> None:
    """With the zeros that may stand between them; one that ends early is an error."""
    raw = Path(HOST).read_bytes()
    packed = lzma.compress(raw[:1000]) + bytes(4) + lzma.compress(raw[1000:]) + bytes(8)
    log = tmp_path / "kern.log.xz"
    log.write_bytes(packed)
    assert postmortem(str(log))[1].startswith("#1  python3[356] was killed: the host ran out of memory.")
    log.write_bytes(packed[:-40])
    code, _, err = postmortem(str(log))
    assert (code, "it ends in the middle of a stream" in err) == (1, True)


def test_an_xz_file_cannot_take_all_memory(postmortem: Postmortem, tmp_path: Path) -> None:
    """Its header says how much: here 1.5 GiB, in a file of 100 bytes."""
    packed = bytearray(lzma.compress(b"x", check=lzma.CHECK_NONE))
    size = 4 * (packed[12] + 1)
    packed[packed.index(b"\x21\x01", 12) + 2] = 37
    packed[8 + size : 12 + size] = zlib.crc32(packed[12 : 8 + size]).to_bytes(4, "little")
    log = tmp_path / "kern.log.xz"
    log.write_bytes(packed)
    code, _, err = postmortem(str(log))
    assert code == 1
    assert "Memory usage limit exceeded" in err


@pytest.mark.parametrize("pack", [bytes, gzip.compress, lzma.compress, bz2.compress])
def test_standard_input_and_several_files_are_read(
    postmortem: Postmortem, stdin: Callable[[bytes], None], pack: Callable[[bytes], bytes]
) -> None:
    """One after the other, numbered through; compressed or not."""
    stdin(pack(Path(HOST).read_bytes()))
    _, out, _ = postmortem("--json", VALUE, "-")
    assert [report["victim"]["comm"] for report in json.loads(out)["reports"]] == ["cache-worker", "python3"]


def test_a_pipe_that_begins_with_one_byte_is_read_like_any_other(tmp_path: Path) -> None:
    """The first bytes tell whether it is compressed."""
    packed = gzip.compress(Path(HOST).read_bytes())
    command = [sys.executable, "-m", "oomguard", "postmortem", "--json", "-"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=tmp_path) as process:
        assert process.stdin is not None
        process.stdin.write(packed[:1])
        process.stdin.flush()
        time.sleep(0.5)
        out, _ = process.communicate(packed[1:])
    assert len(json.loads(out)["reports"]) == 1


def test_standard_input_that_cannot_be_read_is_an_error(
    postmortem: Postmortem, stdin: Callable[[bytes], None]
) -> None:
    """As of a file."""
    for content, said in ((b"\x28\xb5\x2f\xfd....", " is not text"), (gzip.compress(b"x" * 99)[:20], ": ")):
        stdin(content)
        code, _, err = postmortem("-")
        assert (code, err.startswith(f"oomguard: <stdin>{said}")) == (1, True), err


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        (b"LPKSHHRH....", "journalctl --file"),
        (b"\x28\xb5\x2f\xfd....", "zstd -dc"),
        (b"\x1f\x8bnonsense", "name a file"),
        (gzip.compress(b"", mtime=0)[:10] + b"\xff" * 8, "name a file"),
        (None, "name a file"),
    ],
)
def test_what_cannot_be_read_is_an_error_with_a_hint(
    postmortem: Postmortem, tmp_path: Path, content: bytes | None, hint: str
) -> None:
    """No traceback, whatever the file is."""
    path = tmp_path / "log"
    if content is not None:
        path.write_bytes(content)
    code, _, err = postmortem(str(path))
    assert code == 1
    assert str(path) in err
    assert hint in err


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress, bz2.compress])
def test_what_precedes_damage_is_shown(
    postmortem: Postmortem, tmp_path: Path, pack: Callable[[bytes], bytes]
) -> None:
    """A log is cut where its host died; so it is said, and files behind it are read."""
    noise = "".join(f"[    1.{at:06}] {at * 7919 % 10007}\n" for at in range(200_000))
    whole = pack((Path(HOST).read_text() + noise).encode())
    cut = tmp_path / "kern.log.1"
    cut.write_bytes(whole[: len(whole) * 3 // 4])
    os.utime(cut, (1, 1))
    for arguments in ((str(cut), VALUE), (str(cut), VALUE, "--json")):
        code, out, err = postmortem(*arguments)
        assert code == 1
        assert err.startswith(f"oomguard: {cut}: ")
        assert "python3" in out
        assert "cache-worker" in out
    _, out, _ = postmortem("--html", "-", str(cut))
    assert f"A part of the log could not be read: {cut}: " in out


def test_log_that_cannot_be_read_makes_no_page(postmortem: Postmortem, tmp_path: Path) -> None:
    """It would say that there is no report."""
    page = tmp_path / "report.html"
    code, _, err = postmortem("--html", str(page), str(tmp_path / "kern.log"))
    assert (code, "No such file" in err, page.exists()) == (1, True, False)


def test_log_without_reports_is_no_error(postmortem: Postmortem, tmp_path: Path) -> None:
    """It is good news."""
    log = tmp_path / "kern.log"
    log.write_text("[    1.000000] Linux version 6.1\n")
    assert postmortem(str(log))[:2] == (0, "No report of the OOM killer in the log.\n")
    _, out, _ = postmortem("--json", str(log))
    assert json.loads(out) == {
        "format": 1,
        "reports": [],
        "unread_lines": 0,
        "unread": [],
        "refused_allocations": 0,
        "skipped_lines": 0,
    }


def test_only_the_line_of_a_kill_is_two_lines_among_many(postmortem: Postmortem, tmp_path: Path) -> None:
    """What a storm of kills, or `grep`, leaves of reports; as documents they have the keys of any other."""
    log = tmp_path / "log"
    log.write_text(hostile_logs.log("a storm of kills", 400) + Path(HOST).read_text())
    _, out, _ = postmortem("--all", str(log))
    assert out.startswith(
        "#1  worker[100000] was killed: a memory cgroup reached its limit.\n"
        "    1000.000 s after boot; uid 33, 11.7 MiB in RAM, oom_score_adj 0.\n\n"
        "#2  worker[100001] was killed"
    )
    assert "Missing  the beginning" in postmortem("--report", "1", str(log))[1]
    _, out, _ = postmortem("--json", str(log))
    first, *_, last = json.loads(out)["reports"]
    assert set(first) == set(last)
    assert (first["victim"]["pid"], first["memory"]["page_bytes"]) == (100_000, 4096)


@pytest.mark.parametrize("how", ["--all", "--json"])
@pytest.mark.parametrize("kind", ["a storm of kills", "contexts", "askers", "hosts"])
def test_printing_every_report_of_a_hostile_log_has_a_bound(
    postmortem: Postmortem, tmp_path: Path, how: str, kind: str
) -> None:
    """At most 200 times as much as ordinary work on it, whatever it is made of: the most is about 90."""
    log = tmp_path / "log"
    log.write_text(hostile_logs.log(kind, LENGTH))
    with cpu_bound(60, kind):
        takes_at_most(200, lambda: postmortem(how, str(log)), ordinary_work, f"{how} of {kind}")


def test_names_are_made_printable(postmortem: Postmortem, tmp_path: Path) -> None:
    """A process chose them."""
    text = (REPORTS / "6.18-memcg-newline-name.txt").read_text().replace("Out of memo", "\x1b]0;x\x07 memo")
    log = tmp_path / "kern.log"
    log.write_text(text)
    for arguments in ((), ("--json",)):
        _, out, _ = postmortem(*arguments, str(log))
        assert "\x1b" not in out
        assert "\x07" not in out
    _, out, _ = postmortem(str(REPORTS / "6.18-memcg-newline-name.txt"))
    assert "a\\nOut of memo[" in out


def test_rotated_logs_are_one_log_in_the_order_of_time(postmortem: Postmortem, tmp_path: Path) -> None:
    """The shell names the newest first; a report is cut by the rotation; syslog has it once more."""
    lines = Path(VALUE).read_text().splitlines(keepends=True)
    logs = {"kern.log.1": Path(HOST).read_text() + "".join(lines[:60]), "kern.log": "".join(lines[60:])}
    logs["syslog"] = logs["kern.log"]
    for age, (name, text) in enumerate(logs.items()):
        (tmp_path / name).write_text(text)
        os.utime(tmp_path / name, (1000 + age, 1000 + age))
    _, out, _ = postmortem("--json", *(str(tmp_path / name) for name in ("kern.log", "kern.log.1", "syslog")))
    reports = json.loads(out)["reports"]
    assert [report["victim"]["comm"] for report in reports] == ["python3", "cache-worker"]
    assert reports[1]["why"] == "highest"


def test_the_uid_of_a_victim_is_said_once(postmortem: Postmortem, tmp_path: Path) -> None:
    """Its cgroup may have it; that of another user is another."""
    log = tmp_path / "log"
    for slice_, said in (
        (504, "session-2.scope (uid 504), 9.8 MiB in RAM"),
        (7, "uid 504, session-2.scope (uid 7), 9.8"),
    ):
        log.write_text(
            "[    1.000000] oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,"
            f"global_oom,task_memcg=/user.slice/user-{slice_}.slice/session-2.scope,task=hog,pid=50,uid=504\n"
            "[    1.000001] Out of memory: Killed process 50 (hog) total-vm:20000kB, anon-rss:10000kB, "
            "file-rss:0kB, shmem-rss:0kB, UID:504 pgtables:40kB oom_score_adj:0\n"
        )
        _, out, _ = postmortem(str(log))
        assert said in words(out)
        assert ("uid 504, " in words(out)) == (slice_ != 504)


def test_kills_in_no_known_form_are_pointed_at(postmortem: Postmortem, tmp_path: Path) -> None:
    """A log that mentions kills does not simply have no report."""
    log = tmp_path / "log"
    kill = "Killed process 7 (a)"
    lines = [
        "[    1.000000] x",
        kill,
        f"usb 1-1: {kill}",
        f"Oct 12 19:00:20 aks monitor[3]: {kill}",
        f"{kill} x",
    ]
    whys = ["no message of its own", "no message of its own", "another program", "no message of its own"]
    log.write_text("\n".join(lines))
    code, out, _ = postmortem(str(log))
    assert code == 1
    assert "4 lines about kills could not be used: line 2: it may be part of another message" in words(out)
    assert f"line 4: another program wrote it Oct 12 19:00:20 aks monitor[3]: {kill}" in words(out)
    code, out, _ = postmortem("--json", str(log))
    document = json.loads(out)
    assert (code, document["unread_lines"]) == (1, 4)
    assert document["unread"] == [
        {"line": at, "why": why, "text": lines[at - 1]} for at, why in enumerate(whys, 2)
    ]


def test_other_programs_that_repeat_the_kernel_are_no_mystery(postmortem: Postmortem, tmp_path: Path) -> None:
    """A monitor's copy of a kill that is in a report needs no mention."""
    log = tmp_path / "log"
    log.write_text(Path(HOST).read_text() + "Oct 12 19:00:20 aks monitor[3]: Killed process 356 (python3)\n")
    code, out, _ = postmortem(str(log))
    assert (code, "in no report" in out) == (0, False)


def test_victim_is_shown_wherever_it_stands(postmortem: Postmortem, tmp_path: Path) -> None:
    """Beyond the rows that were asked for, too."""
    log = tmp_path / "log"
    log.write_text(formats.CHILD_3_19)
    _, out, _ = postmortem("--tasks", "1", str(log))
    assert any(line.startswith("†") and "9787" in line for line in out.splitlines())


def test_name_that_begins_with_a_blank_hides_nothing(postmortem: Postmortem, tmp_path: Path) -> None:
    """Any user may choose one."""
    log = tmp_path / "log"
    log.write_text(Path(VALUE).read_text().replace("report-gen", " report-gen"))
    _, out, _ = postmortem("--json", str(log))
    (report,) = json.loads(out)["reports"]
    assert report["why"] == "highest"
    assert report["invoker"]["comm"] == " report-gen"


def test_same_kill_after_the_next_boot_is_another(postmortem: Postmortem, tmp_path: Path) -> None:
    """What an image starts alike has the same pid and is as large; the time of day differs."""
    log = tmp_path / "kern.log"
    kill = "Memory cgroup out of memory: Killed process 9 (a) total-vm:9kB, anon-rss:9kB, file-rss:0kB"
    times = ("Oct 12 19:00:20 h kernel: [  100.0]", "Oct 13 19:00:20 h kernel: [  103.0]")
    log.write_text("".join(f"{time} {kill}\n" for time in times))
    _, out, _ = postmortem("--json", str(log))
    assert len(json.loads(out)["reports"]) == 2


def test_report_in_files_that_write_times_in_two_ways_is_told_once(
    postmortem: Postmortem, tmp_path: Path
) -> None:
    """As rsyslog's two formats: only times that are written alike can be compared."""
    logs = {"kern.log": "Oct 12 19:00:20", "syslog": "2026-10-12T19:00:20.123456+02:00"}
    for name, moment in logs.items():
        lines = Path(HOST).read_text().splitlines()
        (tmp_path / name).write_text("".join(f"{moment} h kernel: {line}\n" for line in lines))
    _, out, _ = postmortem("--json", *(str(tmp_path / name) for name in logs))
    assert len(json.loads(out)["reports"]) == 1


def test_refused_allocations_are_told_apart(postmortem: Postmortem, tmp_path: Path) -> None:
    """Strict overcommit kills nobody, and looks alike to those who ask what happened."""
    log = tmp_path / "kern.log"
    line = "__vm_enough_memory: pid: 12, comm: java, bytes: 4096 not enough memory for the allocation\n"
    log.write_text(line * 12)
    for form in ((), ("--html", "-")):
        _, out, _ = postmortem(*form, str(log))
        assert "12 allocations failed because of vm.overcommit_memory" in out


def test_a_page_replaces_a_file_and_nothing_else(postmortem: Postmortem, tmp_path: Path) -> None:
    """A link may be somebody's trap, and a device must stay one."""
    page, link = tmp_path / "report.html", tmp_path / "link"
    page.write_text("old")
    assert postmortem(VALUE, "--html", str(page)) == (0, "", "")
    shown = page.read_text()
    assert '<h1 class="headline">cache-worker[16420] was killed: cgroup /oom-report' in shown
    os.umask(mask := os.umask(0o022))
    assert page.stat().st_mode & 0o777 == 0o666 & ~mask
    assert [one.name for one in tmp_path.iterdir()] == ["report.html"]
    link.symlink_to(page)
    for path, why in ((str(link), "is not a regular file"), (str(tmp_path / "a/b"), "cannot be written")):
        code, _, err = postmortem(VALUE, "--html", path)
        assert (code, why in err) == (1, True)
    assert page.read_text() == shown
    code, out, _ = postmortem(VALUE, "--html", "-")
    assert (code, out.splitlines()[-1]) == (0, "</html>")
    with pytest.raises(SystemExit):
        postmortem(VALUE, "--html", "-", "--json")


@pytest.mark.parametrize(
    ("given", "answer"),
    [
        (("--since", "today", HOST), "--since cannot be combined with FILE"),
        (("--until", "today", "--kmsg"), "--until cannot be combined with --kmsg"),
        (("--kmsg", HOST), "--kmsg cannot be combined with FILE"),
    ],
)
def test_only_one_log_can_be_asked_for(
    postmortem: Postmortem, capsys: pytest.CaptureFixture[str], given: tuple[str, ...], answer: str
) -> None:
    """Exit 2, as for every two options that exclude each other."""
    with pytest.raises(SystemExit) as caught:
        postmortem(*given)
    assert (caught.value.code, answer in capsys.readouterr().err) == (2, True)


def test_times_without_a_journal_are_an_error(
    postmortem: Postmortem, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No file was given that the error could mean."""
    monkeypatch.setattr("oomguard.diagnose.kernel_logs.has_journal", lambda: False)
    code, out, err = postmortem("--since", "yesterday", "--until", "today")
    assert (code, out) == (1, "")
    assert "this host has no journal" in err
    assert "file" not in err


JOURNALCTL = """\
#!/bin/sh
printf '%s\\n' "$*" >> "{folder}/asked"
case "$*" in
*OBJECT_PID=356*) cat "{folder}/entries" ;;
*) cat "{folder}/kernel" ;;
esac
"""


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a journalctl on the PATH that has a report, and who gave the victim its value."""
    program = tmp_path / "journalctl"
    program.write_text(JOURNALCTL.format(folder=tmp_path))
    program.chmod(0o755)
    kernel = []
    for line in _messages(Path(HOST).read_text()):
        kernel.append(
            json.dumps(
                {
                    "MESSAGE": line,
                    "_TRANSPORT": "kernel",
                    "_HOSTNAME": "db1",
                    "__REALTIME_TIMESTAMP": "1790000000000000",
                    "_SOURCE_MONOTONIC_TIMESTAMP": "34791100",
                }
            )
        )
    (tmp_path / "kernel").write_text("\n".join(kernel) + "\n")
    entry = {
        "__REALTIME_TIMESTAMP": "1789999990000000",
        "OOMGUARD_EVENT": "applied",
        "OOMGUARD_TARGET": "oom_score_adj",
        "OOMGUARD_OLD": "0",
        "OOMGUARD_NEW": "900",
        "OOMGUARD_COMM": "python3",
        "OOMGUARD_RULE": "name=python3",
        "OOMGUARD_SOURCE": "/etc/oomguard.yaml:7",
        "OBJECT_PID": "356",
        "MESSAGE": "x",
    }
    (tmp_path / "entries").write_text(json.dumps(entry) + "\n")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr("oomguard.diagnose.kernel_logs.has_journal", lambda: True)
    return tmp_path


def _messages(text: str) -> Iterator[str]:
    """Yield the messages of dmesg's output, those of several lines whole."""
    message = ""
    for line in text.splitlines():
        if line.startswith("["):
            if message:
                yield message
            message = line.partition("] ")[2]
        else:
            message += "\n" + line[15:]
    yield message


def test_journal_is_read_and_tells_which_rule_gave_the_value(postmortem: Postmortem, journal: Path) -> None:
    """By default it is the journal, of every boot; ours has who gave the victim what it had."""
    code, out, _ = postmortem("--since", "-2d")
    assert code == 0
    assert out.startswith("#1  python3[356] was killed: the host ran out of memory.")
    shown = words(out)
    assert ", host db1, Linux 6.12" in shown
    assert "oomguard set 900 at " in shown
    assert "for name=python3 (/etc/oomguard.yaml:7)" in shown
    asked = (journal / "asked").read_text().splitlines()
    assert "--since=-2d" in asked[0]
    assert "_TRANSPORT=kernel" in asked[0]
    assert "_UID=0" in asked[1]
    _, out, _ = postmortem("--json")
    (report,) = json.loads(out)["reports"]
    assert report["given_by"]["rule"] == "name=python3"
    entry = (journal / "entries").read_text()
    for name, is_its in (
        ("(python3)", True),
        ("(ython3)", True),
        ("15", True),
        ("(bash)", False),
        ("bash", False),
    ):
        (journal / "entries").write_text(entry.replace('"python3"', f'"{name}"'))
        assert ("oomguard set 900" in words(postmortem()[1])) == is_its, name


def test_a_journal_that_only_others_can_read_is_not_one_without_kills(
    postmortem: Postmortem, journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a user gets an empty one from journalctl, which says nothing."""
    (journal / "kernel").write_text("")
    (journal / "system.journal").symlink_to("nowhere")  # root can read any file that is there
    monkeypatch.setattr("oomguard.diagnose.journalctl._FOLDERS", (str(journal.parent),))
    (journal / "machine-id").write_text(f"{journal.name}\n")
    monkeypatch.setattr("oomguard.diagnose.journalctl._MACHINE_ID", str(journal / "machine-id"))
    code, out, err = postmortem()
    assert (code, out) == (1, "")
    assert "system.journal cannot be read" in err


KILLED_AT, BOOT = 1_790_000_000.0, 1_790_000_000.0 - 34.7911
GIB = 1024 * 1024


def recorded(folder: StateFolder, *samples: tuple[float, float, dict[int, float]], boot: float = BOOT) -> str:
    """Record the seconds before the kill, GiB that are left, and GiB of processes; return the option."""
    names = {356: "python3", 1: "leak"}
    recorder = Recorder(folder)
    assert recorder.open() == ""
    for seconds, left, sizes in samples:
        at = KILLED_AT - seconds
        holders = (Holder(pid, 7, names[pid], "", int(gib * GIB), 0, 0) for pid, gib in sizes.items())
        memory = Left(int(left * GIB), 4 * GIB)
        recorder.record(Sample(at, at - boot, memory, 0, None, tuple(holders)), in_episode=False)
    recorder.close()
    return f"--state-dir={folder.path}"


@pytest.mark.usefixtures("journal")
def test_a_kill_is_joined_with_what_was_recorded_before_it(
    postmortem: Postmortem, folder: StateFolder
) -> None:
    """What the kernel says of the victim is the end of its growth."""
    option = recorded(folder, (360, 3.1, {356: 0.01}), (1, 0.2, {356: 0.1}), (-1, 3, {356: 0.01}))
    _, out, _ = postmortem(option)
    assert "Before In the 6 minutes before, python3[356] grew from 10.2 MiB to 392.6 MiB;" in words(out)
    assert "MemAvailable fell from 3.1 GiB to 204.8 MiB." in words(out)
    _, out, _ = postmortem(option, "--json")
    [report] = json.loads(out)["reports"]
    assert report["before"]["seconds"] == 360
    assert report["before"]["available_bytes"] == [int(3.1 * GIB) * 1024, int(0.2 * GIB) * 1024]
    [grew] = report["before"]["grew"]
    assert (grew["pid"], grew["comm"], grew["from_bytes"]) == (356, "python3", int(0.01 * GIB) * 1024)


@pytest.mark.parametrize(
    ("seconds", "boot"),
    [(130, BOOT), (700, BOOT), (-101, BOOT), (1, BOOT - 60), (1, BOOT + 3600)],
    ids=["a gap", "long before", "after", "a clock jump", "another boot"],
)
@pytest.mark.usefixtures("journal")
def test_what_was_recorded_at_another_time_is_not_joined(
    postmortem: Postmortem, folder: StateFolder, seconds: float, boot: float
) -> None:
    """The recorder was not running, or its clock was another."""
    option = recorded(folder, (seconds + 100, 3, {356: 0.01}), (seconds, 1, {356: 0.1}), boot=boot)
    _, out, _ = postmortem(option)
    assert "before, python3" not in words(out)
    _, out, _ = postmortem(option, "--json")
    assert json.loads(out)["reports"][0]["before"] is None


@pytest.mark.usefixtures("journal")
def test_only_what_could_be_killed_is_said_to_have_grown(postmortem: Postmortem, folder: StateFolder) -> None:
    """A process that the kernel's table lacks ended before, or is in another cgroup."""
    option = recorded(folder, (60, 3, {356: 0.01, 1: 0.1}), (1, 2.9, {356: 0.01, 1: 0.9}))
    assert "leak" not in words(postmortem(option)[1])


def test_a_log_from_elsewhere_is_not_joined(
    postmortem: Postmortem, folder: StateFolder, tmp_path: Path, journal: Path
) -> None:
    """Though its times would fit: nobody knows whose it is."""
    option = recorded(folder, (60, 3, {356: 0.01}), (1, 2, {356: 0.1}))
    assert (
        json.loads(postmortem(option, "--json", str(journal / "kernel"))[1])["reports"][0]["before"] is None
    )
    assert json.loads(postmortem(option, "--json")[1])["reports"][0]["before"] is not None


def test_one_question_is_about_many_victims(postmortem: Postmortem, journal: Path) -> None:
    """A storm of kills does not start a journalctl for each."""
    kernel = journal / "kernel"
    (kill,) = [line for line in kernel.read_text().splitlines() if "Killed process 356" in line]
    others = [kill.replace("process 356", f"process {pid}") for pid in range(1000, 1400)]
    kernel.write_text("\n".join([*others, kill, ""]))
    _, out, _ = postmortem("--json")
    reports = json.loads(out)["reports"]
    assert [one["number"] for one in reports if one["given_by"] is not None] == [401]
    assert len((journal / "asked").read_text().splitlines()) == 2


def test_value_of_another_is_not_taken_for_ours(postmortem: Postmortem, journal: Path) -> None:
    """The pid may be another process's by then, or the value may have been changed since."""
    entries = journal / "entries"
    entries.write_text(entries.read_text().replace('"900"', '"800"'))
    _, out, _ = postmortem()
    assert "oomguard set" not in words(out)


@pytest.mark.skipif(bool(memcg.missing()), reason=memcg.missing() or "there can be")
def test_real_kill_is_explained(postmortem: Postmortem, policy: Callable[[str], str]) -> None:
    """Three programs run into a limit on the running kernel; what the report says is what happened."""
    with (
        memcg.memory_cgroup("oomguard-postmortem", limit_mib=128) as cgroup,
        cgroup.hog("pm-large", 62) as large,
        cgroup.hog("pm-valued", 30, value=500) as valued,
        cgroup.hog("x) UID:0", 48),
    ):
        assert valued.wait(10) == -9
        assert large.poll() is None
    path = policy("  - {name: pm-large, oom_score_adj: 1000}\n  - {name: pm-valued, oom_score_adj: 0}\n")
    _, out, _ = postmortem("--kmsg", "--json", "--policy", path)
    reports: list[dict[str, Any]] = json.loads(out)["reports"]
    report = next(one for one in reports if one["victim"] and one["victim"]["pid"] == valued.pid)
    assert report["oom_memcg"].endswith("/oomguard-postmortem")
    assert (report["why"], report["victim"]["comm"]) == ("highest", "pm-valued")
    assert report["largest"] == large.pid
    assert report["victim"]["oom_score_adj"] == 500
    assert {"x) UID:0", "pm-large"} <= {task["comm"] for task in report["tasks"]}
    assert report["policy"]["victims"][0]["pid"] == large.pid
    assert report["time"] is not None


@pytest.mark.skipif(not os.access("/dev/kmsg", os.R_OK), reason="/dev/kmsg cannot be read here")
def test_kernels_log_is_read_to_its_end_and_no_further() -> None:
    """It does not wait for what has not been said yet."""
    fd = open_kernel_log()
    try:
        found = list(records(fd))
        assert all(b";" in record for record in found)
        assert len(list(records(fd))) < max(len(found), 1)
    finally:
        os.close(fd)


MOUNT = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
os.setgroups([])
os.setresgid(1234, 1234, 1234)
os.setresuid(1234, 1234, 1234)
CLONE_NEWNS, CLONE_NEWUSER = 0x20000, 0x10000000
if libc.unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0:
    libc.mount(b"tmpfs", b"/mnt", b"tmpfs", 0, sys.argv[1].encode())
"""


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("dmesg") is None or not os.access("/dev/kmsg", os.R_OK),
    reason="takes root, dmesg and the kernel's log",
)
def test_kill_that_a_user_has_the_kernel_print_is_none(postmortem: Postmortem, tmp_path: Path) -> None:
    """The complaint about a mount, which any user may try in a namespace, has its option in it as it is."""
    name = f"not{os.getpid()}"
    option = f"x\nOut of memory: Killed process 1 ({name})\nx"
    subprocess.run([sys.executable, "-c", MOUNT, option], check=True)
    log = tmp_path / "log"
    log.write_bytes(subprocess.run(["dmesg", "-S"], check=True, stdout=subprocess.PIPE).stdout)
    if not re.search(
        rf"(?m)^\[.*\] Out of memory: Killed process 1 \({name}\)$", log.read_text(errors="replace")
    ):
        pytest.skip("users have no user namespaces here, or the log has no times")
    for source in (str(log), "--kmsg"):
        _, out, _ = postmortem("--json", source)
        document = json.loads(out)
        assert name not in json.dumps(document | {"unread": ""})
        assert all(
            one["why"] in ("no message of its own", "unknown form")
            for one in document["unread"]
            if name in one["text"]
        )


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be"])
def test_encodings_of_editors_are_read(
    postmortem: Postmortem, tmp_path: Path, encoding: str, mark: str
) -> None:
    """A log that was saved by an editor may begin with a mark."""
    log = tmp_path / "log"
    log.write_bytes(f"{mark}{Path(HOST).read_text()}".encode(encoding))
    _, out, _ = postmortem(str(log))
    assert out.startswith("#1  python3[356] was killed: the host ran out of memory.")


def test_a_report_whose_end_is_missing_does_not_claim_that_nothing_was_killed(
    postmortem: Postmortem, tmp_path: Path
) -> None:
    """The list and the explanation agree that it is unknown."""
    whole = Path(HOST).read_text().splitlines(keepends=True)
    cut = [line for line in whole if "oom-kill:" not in line and "Out of memory" not in line]
    assert len(cut) < len(whole)
    log = tmp_path / "log"
    log.write_text("".join([*whole, *cut]))
    _, out, _ = postmortem(str(log))
    assert "the log does not show which process was killed" in words(out)
    (row,) = [line for line in out.splitlines() if line.startswith("2  ")]
    assert " unknown " in row
