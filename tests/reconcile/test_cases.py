"""Policy, observation and expected plan side by side: every case of `tests/cases/*.yaml`.

A case is a mapping with these keys:

- `case`: what it shows, a sentence;
- `policy`: the text of the policy file;
- `processes`: fields of `core.process.Process`, with `pid`, `start` (else the pid), `value`, and
  `state` or `kernel_thread` where they matter; texts may hold surrogates for bytes that are no UTF-8;
- `sysctls`, `meminfo`: what this kernel has; `meminfo` over the defaults of `fakeproc`;
- `ledger`: by pid or sysctl, `[original, given]`, `[original, given, given_before]` or all fields by name;
- `plan`: the changes in order, each with `target` (pid or sysctl), `from`, `to`, and, where they
  matter, `cause`, `line` (of the policy), `said` (how it says a sysctl's value) and `refused` (a text in the
  reason);
- `restored`: what `restore` leaves, where that is not the start.

Besides the plan itself each case checks that, applied, it leaves only what was refused, and that
a restore then puts back the start.
"""

from pathlib import Path
from typing import Any

import pytest
import yaml

from fakeproc import FakeProc, due
from oomguard.core.change import Change, SetOomScoreAdj
from oomguard.core.entry import Entry
from oomguard.core.policy import Policy
from oomguard.core.process import Identity, Process
from oomguard.kernel.host import observe_host
from oomguard.kernel.procfs import Procfs
from oomguard.policy.load import load
from oomguard.reconcile.ledger import Ledger
from oomguard.reconcile.reconciler import Reconciler

Case = dict[str, Any]
Values = dict[int | str, int]

FOLDER = Path(__file__).parent.parent / "cases"

CASES: dict[str, Case] = {
    f"{path.stem}: {case['case']}": case
    for path in sorted(FOLDER.glob("*.yaml"))
    for case in yaml.safe_load(path.read_text())
}


def build(case: Case, proc: FakeProc) -> None:
    """Make the tree that the case observes."""
    for fields in case.get("processes", []):
        given = dict(fields)
        pid = given.pop("pid")
        state = given.pop("state", "S")
        kernel_thread = given.pop("kernel_thread", False)
        process = Process(
            Identity(pid, given.pop("start", pid)),
            given.pop("comm").encode("utf-8", "surrogateescape"),
            parent_pid=given.pop("parent", 1),
            arguments=tuple(text.encode("utf-8", "surrogateescape") for text in given.pop("arguments", [])),
            oom_score_adj=given.pop("value", 0),
        )
        proc.process(process._replace(**given), state=state, kernel_thread=kernel_thread)
    for name, value in case.get("sysctls", {}).items():
        proc.sysctl(name, value)
    proc.meminfo(**case.get("meminfo", {}))


def known(case: Case) -> Ledger:
    """Return the ledger that the case begins with."""
    ledger = Ledger()
    starts = {fields["pid"]: fields.get("start", fields["pid"]) for fields in case.get("processes", [])}
    for target, fields in case.get("ledger", {}).items():
        entry = Entry(**fields) if isinstance(fields, dict) else Entry(*fields)
        if isinstance(target, int):
            ledger.record(Identity(target, starts[target]), entry)
        else:
            ledger.record(target, entry)
    return ledger


def plan(reconciler: Reconciler) -> list[Change]:
    """Return every change that is due."""
    return [*reconciler.planner.sysctl_changes("policy"), *due(reconciler)]


def described(change: Change, expected: Case) -> Case:
    """Return a change as a case writes it, with the optional keys that `expected` has."""
    target: int | str
    if isinstance(change, SetOomScoreAdj):
        target, source, said = change.identity.pid, change.rule.source if change.rule else "", ""
    else:
        target, source = change.name, change.source
        said = change.said
    found: Case = {"target": target, "from": change.before, "to": change.after}
    if "cause" in expected:
        found["cause"] = change.cause
    if "said" in expected:
        found["said"] = said
    if "line" in expected:
        found["line"] = int(source.rpartition(":")[2]) if source else None
    if "refused" in expected or change.obstacle is not None:
        reason = "" if change.obstacle is None else change.obstacle.reason
        wanted = expected.get("refused")
        found["refused"] = wanted if wanted is not None and wanted in reason else reason
    return found


def values(proc: FakeProc) -> Values:
    """Return every value there is."""
    return dict([*proc.oom_score_adjs().items(), *proc.sysctls().items()])


@pytest.mark.parametrize("name", CASES)
def test_a_case(name: str, proc: FakeProc, procfs: Procfs, tmp_path: Path) -> None:
    """The plan is the expected one, leaves nothing to do once applied, and can be taken back."""
    case = CASES[name]
    build(case, proc)
    start = values(proc)
    file = tmp_path / "oomguard.yaml"
    file.write_text(case["policy"])
    file.chmod(0o644)
    policy = load(str(file), host=observe_host(procfs)).policy
    reconciler = Reconciler(policy, known(case), procfs)

    found = plan(reconciler)
    expected = case["plan"]
    beside = [*expected, *[{}] * len(found)]
    assert [described(change, wanted) for change, wanted in zip(found, beside, strict=False)] == expected
    assert values(proc) == start, "planning wrote something"

    refused = [change for change in found if change.obstacle is not None]
    outcomes = list(reconciler.everything("policy", now=0.0))
    results = ["refused" if change.obstacle is not None else "applied" for change in found]
    assert [outcome.result for outcome in outcomes] == results
    for change in found:
        target = change.identity.pid if isinstance(change, SetOomScoreAdj) else change.name
        assert values(proc)[target] == (change.before if change.obstacle is not None else change.after)
    assert [(c.before, c.after) for c in plan(reconciler)] == [(c.before, c.after) for c in refused]

    reconciler.adopt(Policy())
    assert {outcome.result for outcome in reconciler.everything("restore", now=0.0)} <= {"applied", "refused"}
    assert values(proc) == start | case.get("restored", {})
    assert all(change.obstacle is not None for change in plan(reconciler))


def test_every_case_has_a_name_of_its_own() -> None:
    """Two of one name would hide each other."""
    written = sum(len(yaml.safe_load(path.read_text())) for path in FOLDER.glob("*.yaml"))
    assert len(CASES) == written
    assert written >= 20
