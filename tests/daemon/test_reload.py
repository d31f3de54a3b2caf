"""Reading the policy again, at the worst moment."""

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from oomguard.daemon.ceiling import Ceiling
from oomguard.daemon.loop import Loop
from oomguard.daemon.reload import Reloader
from oomguard.reconcile.policy_cache import PolicyCache

if TYPE_CHECKING:
    from oomguard.core.errors import OomguardError
    from oomguard.core.policy import Policy


def test_a_policy_that_was_read_during_a_pause_at_the_ceiling_is_adopted(tmp_path: Path) -> None:
    """Only timers run then, the deadline of the reading among them."""
    path = tmp_path / "policy.yaml"
    path.write_text("rules: [{name: some, oom_score_adj: 1}]\n")
    adopted: list[Policy] = []
    rejected: list[OomguardError] = []
    loop = Loop()
    reloader = Reloader(
        str(path),
        loop,
        adopt=adopted.append,
        reject=rejected.append,
        limited=print,
        cache=PolicyCache(str(tmp_path / "state")),
        observe=lambda: None,
    )
    reloader.reload()
    os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
    loop.ceiling = Ceiling(time.monotonic(), time.process_time() - 60)
    loop.set("policy-child", time.monotonic())
    assert not loop.turn(busy=False), "it did not pause"
    reloader.close()
    assert not rejected
    assert [policy.rules[0].label for policy in adopted] == ["name=some"]
