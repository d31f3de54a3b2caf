"""No rule matches oomguard: not the daemon, not the reader of its policy, and no verb wants to either."""

import json
import subprocess
import sys
from pathlib import Path

from running import oom_score_adj, running


def oomguard(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run a verb."""
    return subprocess.run(
        [sys.executable, "-m", "oomguard", *arguments], check=False, capture_output=True, text=True
    )


def test_a_rule_that_fits_everything_of_oomguards_matches_none_of_it(tmp_path: Path) -> None:
    """By the command lines of both."""
    command = rf"oomguard\.(daemon|policy) {tmp_path}/"
    policy = f"rules:\n  - cmdline: '{command}'\n    oom_score_adj: 77\n"
    with running(tmp_path, policy) as daemon:
        places = ("--policy", str(daemon.policy), "--state-dir", str(daemon.state))
        pid = daemon.process.pid
        before = oom_score_adj(pid)
        daemon.policy.write_text(policy + "resync_interval: 1\n")  # read by another child
        daemon.wait_for("policy loaded")

        plan = oomguard("plan", *places, "--json")
        assert (plan.returncode, plan.stdout) == (0, "[]\n")
        assert "oomguard itself: no rule matches it" in oomguard("explain", str(pid), *places).stdout
        checked = oomguard("check", "--host", *places, "--json")
        assert checked.returncode == 0, checked.stdout
        ranked = json.loads(oomguard("rank", *places, "--json").stdout)["processes"]
        (own,) = [row for row in ranked if row["pid"] == pid]
        assert own["decision"] is None
        assert oom_score_adj(pid) == before
        assert " → " not in daemon.log
