"""Regular expressions on command lines that others choose: bounded, said, and never silently wrong."""

import os
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from fakeproc import FakeProc, due
from oomguard.core.process import CMDLINE_LIMIT, Identity, Process, UnknownFactError
from oomguard.kernel.procfs import Procfs
from oomguard.kernel.slow_reads import REFILL
from oomguard.policy.load import load
from oomguard.reconcile.ledger import Ledger
from oomguard.reconcile.matching import MATCH_SECONDS
from oomguard.reconcile.reconciler import Reconciler

if TYPE_CHECKING:
    import re

WORST = [
    (r"(a+)+$", b"a" * 64 + b"!"),
    (r"(a|a)*$", b"a" * 4000 + b"!"),
    (r"(a|aa)+$", b"a" * 4000 + b"!"),
    (r"^(([a-z])+.)+[A-Z]([a-z])+$", b"a" * 200),
    (r"(.*)*x", b"y" * 2_000_000),
    (r"(?=(a+)+b)", b"a" * 5000),
    (r"a*a*a*a*a*a*b", b"a" * 4096),
    (r"java .*-jar .*-jar .*jenkins", b"java -jar " * 400),
    (r"(\d+|[0-9]+)+;", b"1" * 4000),
]


def reconciler(text: str, procfs: Procfs, tmp_path: Path) -> Reconciler:
    """Hold a policy against the tree."""
    file = tmp_path / "policy.yaml"
    file.write_text(text)
    return Reconciler(load(str(file)).policy, Ledger(), procfs)


@pytest.mark.parametrize(("pattern", "arguments"), WORST, ids=[pattern for pattern, _ in WORST])
def test_the_worst_patterns_cost_no_more_than_they_are_given(
    proc: FakeProc, procfs: Procfs, tmp_path: Path, pattern: str, arguments: bytes
) -> None:
    """The process is left as it is, which is reported, and its neighbor is not held up."""
    proc.process(Process(Identity(20, 1), b"trap", arguments=(arguments,)))
    proc.process(Process(Identity(21, 1), b"other", arguments=(b"--serve",)))
    text = f"rules:\n- {{cmdline: '{pattern}', oom_score_adj: 100}}\n- {{cmdline: ., oom_score_adj: 200}}\n"
    found = reconciler(text, procfs, tmp_path)
    start = time.process_time()
    changes = [change.identity.pid for change in due(found)]
    assert time.process_time() - start < 10 * MATCH_SECONDS
    assert changes == [21]
    assert any("takes too long" in reason for reason in found.managed.unreadable.values())
    assert 20 not in found.managed.rule_of


def test_many_patterns_do_not_use_up_the_time_of_the_first_process(
    proc: FakeProc, procfs: Procfs, tmp_path: Path
) -> None:
    """They are compiled before: 400 take a tenth of a second, which would be given up, again and again."""
    patterns = "\n".join(
        rf"  - '^/usr/lib/jvm/java-{n}/bin/java .*-jar /opt/app-{n}/.*\.jar'" for n in range(400)
    )
    proc.process(Process(Identity(20, 1), b"java", arguments=(b"/opt/x",)))
    text = f"rules:\n- cmdline:\n{patterns}\n  oom_score_adj: 100\n- {{name: java, oom_score_adj: 200}}\n"
    found = reconciler(text, procfs, tmp_path)
    assert [change.after for change in due(found)] == [200]
    assert not found.managed.unreadable


def test_what_stands_behind_the_limit_of_a_command_line_is_not_seen(
    proc: FakeProc, procfs: Procfs, tmp_path: Path
) -> None:
    """Its owner may put 2 MiB in front; the limit is documented."""
    proc.process(Process(Identity(20, 1), b"a", arguments=(b"x" * CMDLINE_LIMIT, b"--late")))
    proc.process(Process(Identity(21, 1), b"a", arguments=(b"x" * (CMDLINE_LIMIT - 7), b"--late")))
    found = reconciler("rules: [{cmdline: '--late$', oom_score_adj: 5}]", procfs, tmp_path)
    assert [change.identity.pid for change in due(found)] == [21]


class Ending:
    """A pattern that takes long on a process, which ends meanwhile."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.searches = 0

    def search(self, _text: str) -> None:
        """Find nothing, after a while."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.searches += 1
        until = time.thread_time() + MATCH_SECONDS / 4
        while time.thread_time() < until:
            pass


def test_processes_that_end_while_a_pattern_takes_long_pay_as_well(tmp_path: Path) -> None:
    """However many a user starts, one after the other."""
    found, pattern = reconciler("rules: [{cmdline: x, oom_score_adj: 5}]", Procfs(), tmp_path), Ending()
    refused, begun = 0, time.monotonic()
    for _ in range(30):
        with subprocess.Popen(
            ["/bin/sleep", "60"], user=65534 if os.geteuid() == 0 else None
        ) as pattern.process:
            handle = found.procfs.open(pattern.process.pid)
            assert handle is not None
            with handle:
                assert handle.uid, "as the rule's other conditions ask"
                try:
                    found.matching.search(cast("re.Pattern[str]", pattern), "", handle)
                except UnknownFactError:
                    refused += 1
                pattern.process.kill()
    granted = MATCH_SECONDS + REFILL * (time.monotonic() - begun)
    assert pattern.searches * MATCH_SECONDS / 4 <= granted + MATCH_SECONDS / 2, (
        "what began before is finished"
    )
    assert pattern.searches + refused == 30
    found.procfs.close()
