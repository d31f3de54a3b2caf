"""The process that reads the policy for the daemon."""

import os
import signal
import time
from pathlib import Path

import pytest

from oomguard.core.errors import OomguardError
from oomguard.daemon.loop import Loop
from oomguard.daemon.policy_child import PolicyChild
from oomguard.reconcile.policy_cache import Copy


@pytest.mark.parametrize(("number", "name"), [(signal.SIGKILL, "SIGKILL"), (36, "signal 36")])
def test_a_reader_that_was_killed_is_reported_with_what_it_used(
    tmp_path: Path, number: int, name: str
) -> None:
    """The kernel kills one that reaches its limit of CPU time, and only that time says so."""
    policy = tmp_path / "policy.yaml"
    policy.write_text("rules: []\n")
    child = PolicyChild(str(policy), None, deadline=time.monotonic() + 60, copy=Copy(""))
    os.kill(child.pid, number)
    child.wait(Loop(), lambda: False)
    with pytest.raises(OomguardError, match=rf"was killed by {name} after 0 s of CPU time$") as raised:
        child.finish()
    assert raised.value.hint == f"run `oomguard check --policy {policy}` to see why"
