"""For any policy, processes, ledger and rights, every verb gives the same answer, and `apply` follows it."""

import io
import json
import os
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from fakeproc import FakeKernel, FakeProc
from floors import FakePrivilege, FlooredKernel
from oomguard.__main__ import main
from oomguard.core.decide import Rights
from oomguard.core.process import Identity, Process
from oomguard.daemon.loop import Loop
from oomguard.daemon.status_writer import Matched, StatusWriter
from oomguard.policy.load import load
from oomguard.reconcile.ledger import open_hosts_ledger
from oomguard.reconcile.reconciler import Reconciler
from oomguard.reconcile.state_folder import open_state_folder
from oomguard.report.journal import StreamSink
from oomguard.report.reporter import Degradations, Reporter
from oomguard.report.status_file import STATUS_FILE

COMMS = (b"a", b"b", b"foo) Z 1 (", b"\xff\n")
CGROUPS = ("/", "/system.slice/a.service", "/user.slice/user-1.slice/user@1.service/app.slice/b.service")
VALUES = st.sampled_from([-1000, -500, -1, 0, 1, 300, 1000])
FACTS = ("rule", "source", "original", "current", "wanted", "inherited", "obstacle")


@st.composite
def rules(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Generate the rules of a policy as they are written."""
    found = []
    for _ in range(draw(st.integers(0, 4))):
        value = draw(VALUES)
        rule: dict[str, Any] = {
            "name": draw(st.sampled_from(["a", ["b", "foo*"], "*"])),
            "oom_score_adj": draw(st.sampled_from([value, "keep", {"at_most": value}, {"at_least": value}])),
        }
        if draw(st.booleans()):
            rule["user"] = draw(st.integers(0, 1))
        if draw(st.booleans()):
            rule["unit"] = "*.service"
        rule |= draw(
            st.sampled_from(
                [{}, {"scope": "main"}, {"trust": "name"}, {"containers": True}, {"children": "inherit"}]
            )
        )
        found.append(rule)
    return found


@st.composite
def processes(draw: st.DrawFn) -> list[Process]:
    """Generate a forest of processes."""
    return [
        Process(
            Identity(pid, pid),
            draw(st.sampled_from(COMMS)),
            parent_pid=draw(st.sampled_from([1, *range(10, pid)])),
            uid=draw(st.integers(0, 1)),
            cgroup=draw(st.sampled_from(CGROUPS)),
            in_container=draw(st.booleans()),
            oom_score_adj=draw(st.integers(-999, 999)),
        )
        for pid in range(10, 10 + draw(st.integers(1, 6)))
    ]


class Host:
    """A tree with processes and a state folder, and the program's verbs on it."""

    def __init__(self, folder: str, found: list[Process]) -> None:
        self.proc = FakeProc(Path(folder) / "proc")
        self.proc.sysctl("vm.swappiness", 60)
        for process in found:
            self.proc.process(process)
            self.proc.hold(process.identity.pid, rss_pages=process.identity.pid)
        self.policy = Path(folder) / "policy.yaml"
        self._places = ["--state-dir", f"{folder}/state", "--proc", str(self.proc.root)]

    def write(self, found: list[dict[str, Any]], swappiness: int) -> None:
        """Write the policy file."""
        self.policy.write_text(yaml.safe_dump({"vm": {"swappiness": swappiness}, "rules": found}))

    def apply_and_edit(self, before: list[dict[str, Any]], now: list[dict[str, Any]]) -> None:
        """Apply one policy, and leave another in the file."""
        self.write(before, 10)
        self.call("apply")
        self.write(now, 20)

    def call(self, verb: str, *arguments: str, rights: Rights | None = None) -> Any:
        """Run a verb with --json; return what it printed."""
        policy = (
            []
            if "restore" in (verb, *(one.strip("-") for one in arguments))
            else ["--policy", str(self.policy)]
        )
        argv = ["oomguard", verb, *arguments, "--json", *policy, *self._places]
        out = io.StringIO()
        with (
            patch("oomguard.diagnose.this_host.Procfs", FakeKernel),
            patch("oomguard.diagnose.this_host.own_rights", lambda: rights or Rights(os.geteuid())),
            patch.object(sys, "argv", argv),
            redirect_stdout(out),
            redirect_stderr(io.StringIO()),
        ):
            main()
        return json.loads(out.getvalue())

    def run_daemon(
        self, between: Callable[[], None] = lambda: None, kernel: Callable[[str], FakeKernel] = FakeKernel
    ) -> None:
        """Do two passes as a daemon does, and leave its status file; a kernel thread stands for it."""
        procfs = kernel(str(self.proc.root))
        folder = open_state_folder(self._places[1])
        folder.lock()
        ledger = open_hosts_ledger(folder, procfs)
        reporter = Reporter(StreamSink(io.StringIO()))
        reconciler = Reconciler(load(str(self.policy)).policy, ledger, procfs)
        for _ in range(2):  # what was inherited is reset first, and refused then
            for outcome in reconciler.everything("policy", 0.0):
                reporter.outcome(outcome, 0.0)
            between()
        daemon = Identity(9, 9)
        self.proc.process(Process(daemon, b"oomguard", uid=os.geteuid()), kernel_thread=True)
        writer = StatusWriter(Loop(), folder, procfs, daemon, reporter, Degradations(reporter))
        matched = Matched(
            reconciler.policy.rules, reconciler.managed.rule_of, tuple(reporter.complaints.values())
        )
        writer.write(writer.collect(reconciler, matched))
        ledger.close()
        folder.close()
        procfs.close()

    def decisions(self, rights: Rights | None = None) -> dict[int, dict[str, Any]]:
        """Return what `explain` says of each process."""
        pids = map(str, self.proc.pids())
        explained = self.call("explain", *pids, rights=rights)
        for one in explained:
            matched = [tried["rule"] for tried in one["tried"] if tried["matched"]]
            rule, obstacle = one["decision"]["rule"], one["decision"]["obstacle"]
            is_refused = obstacle is not None and obstacle["kind"] == "refused"
            assert matched == ([] if rule is None or is_refused else [rule])
        return {one["pid"]: one["decision"] for one in explained}


def as_decision(planned: dict[str, Any]) -> dict[str, Any]:
    """Return a row of `plan` with the keys of a decision."""
    renamed = planned | {"current": planned["from"], "wanted": planned["to"]}
    return {key: renamed[key] for key in FACTS if key != "inherited"}


def due(decision: dict[str, Any]) -> bool:
    """Tell whether a decision is a change."""
    return bool(decision["wanted"] != decision["current"])


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(processes(), st.lists(rules(), max_size=2), rules(), st.booleans(), st.booleans())
def test_every_verb_gives_the_same_answer(
    found: list[Process],
    before: list[list[dict[str, Any]]],
    now: list[dict[str, Any]],
    lowers_any: bool,
    is_owner: bool,
) -> None:
    """Whatever policies were applied before: rule, values and obstacle of each process agree."""
    rights = Rights(os.geteuid() + (not is_owner), overrides_owner=False, lowers_any=lowers_any)
    with tempfile.TemporaryDirectory() as folder:
        host = Host(folder, found)
        for one in before:
            host.write(one, 10)
            host.call("apply")
        host.write(now, 20)
        decisions = host.decisions(rights)
        planned = {row["pid"]: row for row in host.call("plan", rights=rights) if "pid" in row}
        assert {pid: as_decision(row) for pid, row in planned.items()} == {
            pid: {key: one[key] for key in FACTS if key != "inherited"}
            for pid, one in decisions.items()
            if due(one)
        }
        for row in host.call("rank", rights=rights)["processes"]:
            decision = decisions[row["pid"]]
            assert row["decision"] in (None, decision)
            assert row["decision"] is not None or (decision["rule"] is None and not due(decision))
            is_certain = decision["obstacle"] is None
            assert row["policy"]["oom_score_adj"] == decision["wanted" if is_certain else "current"]
        in_the_way = Counter(
            (one["source"], one["obstacle"]["kind"])
            for one in decisions.values()
            if one["rule"] and one["obstacle"]
        )
        codes = {"refused-process": ("refused",), "denied-here": ("denied", "may-be-denied")}
        for fault in host.call("check", "--host", rights=rights):
            number = re.search(r"for (\d+) process|to (\d+) process", fault["message"])
            if number and fault["code"] in codes:
                count, source = int(number[1] or number[2]), f"{fault['file']}:{fault['line']}"
                assert count in [in_the_way.pop((source, kind), 0) for kind in codes[fault["code"]]]
        assert not in_the_way


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(processes(), rules(), rules())
@example(  # an old child that by itself has the value which its parent was set to
    [
        Process(Identity(10, 10), b"a", oom_score_adj=5),
        Process(Identity(11, 11), b"b", parent_pid=10, oom_score_adj=1),
    ],
    [{"name": "a", "oom_score_adj": 1, "trust": "name"}],
    [{"name": "a", "oom_score_adj": 300, "trust": "name"}],
)
def test_apply_and_restore_do_what_plan_showed(
    found: list[Process], before: list[dict[str, Any]], now: list[dict[str, Any]]
) -> None:
    """In the same order, with the same values; what was in the way is why it was not done."""
    with tempfile.TemporaryDirectory() as folder:
        host = Host(folder, found)
        host.apply_and_edit(before, now)
        for arguments in (("apply",), ("restore",)):
            planned = host.call("plan", *(["--restore"] if arguments == ("restore",) else []))
            done = host.call(*arguments)
            assert [(row.get("pid"), row["from"], row["to"]) for row in planned] == [
                (row.get("pid"), row["from"], row["to"]) for row in done
            ]
            for was, became in zip(planned, done, strict=True):
                expected = "applied" if was["obstacle"] is None else was["obstacle"]["kind"]
                assert became["result"] == was.get("result", expected)
            assert all(row["obstacle"] for row in host.call("plan")) or arguments == ("restore",)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(processes(), rules(), rules())
def test_what_a_daemon_did_is_what_the_verbs_say_of_it(
    found: list[Process], before: list[dict[str, Any]], now: list[dict[str, Any]]
) -> None:
    """After its passes: its rules match what `explain` says they do, and are refused for the same reasons."""
    with tempfile.TemporaryDirectory() as folder:
        host = Host(folder, found)
        host.apply_and_edit(before, now)
        host.run_daemon()
        decisions = host.decisions()
        document = host.call("status")["daemon"]
        matched = Counter(one["source"] for one in decisions.values() if one["rule"] and not one["obstacle"])
        assert {rule["source"]: rule["processes"] for rule in document["rules"]} == matched
        assert {(one["result"], one["reason"]) for one in document["complaints"]} == {
            (one["obstacle"]["kind"], one["obstacle"]["reason"])
            for one in decisions.values()
            if one["obstacle"]
        }
        assert not any(due(one) for one in decisions.values() if not one["obstacle"])


def test_that_a_renamed_process_is_still_raised_is_known_to_every_verb(tmp_path: Path) -> None:
    """The daemon remembers it, and its status file tells; under another policy, it is not known."""
    host = Host(str(tmp_path), [Process(Identity(10, 10), b"a", uid=1)])
    host.write([{"name": "a", "oom_score_adj": 300}], 60)
    renamed = Process(Identity(10, 10), b"b", uid=1, oom_score_adj=300)
    host.run_daemon(between=lambda: host.proc.process(renamed))
    (explained,) = host.call("explain", "10")
    assert explained["verdict"] == (
        "stays 300: it no longer matches name=a, which still applies until it runs another program"
    )
    assert explained["decision"]["rule"] == "name=a"
    assert host.call("plan") == []
    status = tmp_path / "state" / STATUS_FILE
    whole = status.read_text()
    for number in (-1, 1):
        document = json.loads(whole)
        document["still_raised"][0]["rule"] = number
        status.write_text(json.dumps(document))
        assert host.call("explain", "10")[0]["decision"]["rule"] is None, "there is no such rule"
    status.write_text(whole)
    host.write([{"name": "a", "oom_score_adj": 400}], 60)
    assert host.call("explain", "10")[0]["decision"]["rule"] is None


def test_what_the_kernel_denied_the_daemon_is_known_to_every_verb(tmp_path: Path) -> None:
    """In the words of `status`; of another process, it is not known yet."""
    host = Host(str(tmp_path), [Process(Identity(10, 10), b"a")])
    host.write([{"name": "a", "oom_score_adj": -500}], 60)
    host.run_daemon(kernel=lambda root: FlooredKernel(root, FakePrivilege(is_permitted=False)))
    host.proc.process(Process(Identity(11, 11), b"a"))
    (complaint,) = host.call("status")["daemon"]["complaints"]
    (planned, new) = host.call("plan")
    assert planned["obstacle"] == {"kind": "denied"} | {key: complaint[key] for key in ("reason", "hint")}
    assert new["obstacle"]["kind"] == "may-be-denied"
    assert host.decisions()[10]["obstacle"] == planned["obstacle"]


@pytest.mark.parametrize(
    ("rights", "kind"),
    [
        (Rights(os.geteuid(), lowers_any=False), "may-be-denied"),
        (Rights(os.geteuid() + 1, overrides_owner=False), "denied"),
        (Rights(os.geteuid() + 1), None),
    ],
)
def test_what_the_kernel_will_deny_is_known_beforehand(
    tmp_path: Path, rights: Rights, kind: str | None
) -> None:
    """Without a capability lowering may fail, and another user's process cannot be changed."""
    host = Host(str(tmp_path), [Process(Identity(10, 10), b"a")])
    host.write([{"name": "a", "oom_score_adj": -500}], 60)
    decision = host.decisions(rights)[10]
    assert (decision["obstacle"] and decision["obstacle"]["kind"]) == kind
