"""`oomguard advise`: from /proc and the status file to a policy that passes `check`."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fakeproc import FakeProc
from oomguard.__main__ import main
from oomguard.core.process import Identity, Process
from oomguard.policy.load import load
from oomguard.report.status_file import encode_status
from running import running, wait_until
from statuses import IDLE

Advise = Callable[..., tuple[int, str, str]]


@pytest.fixture
def advise(
    proc: FakeProc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Advise:
    """Return what runs the verb on a host with a database."""
    for name, value in {"vm.overcommit_memory": 0, "vm.panic_on_oom": 0, "kernel.panic": 10}.items():
        proc.sysctl(name, value)
    proc.process(Process(Identity(7, 1), b"postgres", uid=999))
    proc.process(Process(Identity(8, 1), b"redis-server"), kernel_thread=True)
    argv = ["oomguard", "advise", "--proc", str(proc.root), "--state-dir", str(tmp_path / "state")]

    def call(*more: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", [*argv, *more])
        code = main()
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def test_without_a_daemon_no_limit_is_proposed(advise: Advise, tmp_path: Path) -> None:
    """But what else is known is, and it passes."""
    code, out, _ = advise()
    assert code == 0
    assert "no daemon has measured its peak" in out.replace("\n# ", " ").replace("  ", " ")
    file = tmp_path / "advised.yaml"
    file.write_text(out)
    assert next(rule.label for rule in load(str(file)).policy.rules).startswith("name=postgres user=")


def test_programs_that_proc_hides_are_said_to_be_missing(advise: Advise, proc: FakeProc) -> None:
    """They may need what is not suggested."""
    (proc.root / "self").mkdir(exist_ok=True)
    (proc.root / "self" / "mountinfo").write_text("22 1 0:21 / /proc rw - proc proc rw,hidepid=2\n")
    assert advise()[2].startswith("oomguard: hidepid= hides other users' processes from this user")


def test_as_json_each_finding_has_its_reason_and_sources(advise: Advise) -> None:
    """What is not proposed has no value, and says why; the policy is the same."""
    text = advise()[1]
    code, out, _ = advise("--json")
    document = json.loads(out)
    assert code == 0
    assert document["format"] == 1
    assert document["policy"] == text
    assert document["host"]["committed_peak_bytes"] is None
    assert document["host"]["total_bytes"] > 0
    found = {one["target"]: one for one in document["findings"]}
    assert found["kernel.panic"]["value"] == 10
    assert found["kernel.panic"]["sources"] == []
    mode = found["vm.overcommit_memory"]
    assert mode["value"] is None
    assert "no daemon has measured its peak" in mode["reason"]
    assert mode["sources"] == ["PostgreSQL: manual, 19.4.4 Linux Memory Overcommit"]
    rule = found["oom_score_adj"]
    assert rule["value"] == {"at_most": -900}
    assert rule["conditions"]["name"] == ["postgres"]
    assert rule["scope"] == "main"
    assert all(one.keys() == mode.keys() for one in document["findings"])


def test_the_peak_is_at_least_what_is_promised_now(advise: Advise, proc: FakeProc, tmp_path: Path) -> None:
    """The daemon looks once a minute."""
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "status.json").write_bytes(encode_status(IDLE._replace(committed_peak_kib=1)))
    proc.process(Process(IDLE.identity, b"python3"))
    host = json.loads(advise("--json")[1])["host"]
    assert host["committed_peak_bytes"] == host["committed_bytes"] > 1024


def test_a_damaged_status_file_is_said_and_passed_over(advise: Advise, tmp_path: Path) -> None:
    """What is on the host is no less true."""
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "status.json").write_text("{")
    code, out, err = advise()
    assert code == 0
    assert "the peak of promised memory is not known" in err
    assert "postgres" in out


def test_without_meminfo_there_is_nothing_to_go_by(advise: Advise, proc: FakeProc) -> None:
    """Exit 1."""
    (proc.root / "meminfo").unlink()
    code, out, err = advise()
    assert (code, out) == (1, "")
    assert "advise needs it" in err


def test_the_daemon_keeps_the_peak_for_it(tmp_path: Path) -> None:
    """In the status file, from its first pass on; the real host has promised something."""
    with running(tmp_path, "rules: []\n") as daemon:
        status = daemon.state / "status.json"

        def peak() -> int:
            found: int = json.loads(status.read_bytes())["committed_peak_kib"]
            return found

        wait_until(lambda: peak() > 0, "a peak")
        assert time.time() - json.loads(status.read_bytes())["started_at"] < 60
