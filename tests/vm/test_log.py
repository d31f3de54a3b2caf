"""`oomguard log` reads back from a real journal what the service wrote to it."""

import json

from .service import Service
from .workload import hog

POLICY = "rules: [{{name: vm-logged, oom_score_adj: {}}}]\n"


def test_an_adjustment_is_found_again_by_pid_rule_and_cause(installed: Service) -> None:
    """And an entry that somebody else wrote in the service's name is not."""
    vm = installed.vm
    installed.apply_policy(POLICY.format(100))
    with hog(vm, "vm-logged") as pid:
        installed.wait_for_value(
            f"/proc/{pid}/oom_score_adj", 100
        )  # so its exec is not what changes it later
        since = vm.now()
        installed.write_policy(POLICY.format(321))
        installed.wait_for_value(f"/proc/{pid}/oom_score_adj", 321)
        installed.wait_for_event("applied", since=since)
        forged = (
            "import socket; socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto("
            "b'MESSAGE=x\\nSYSLOG_IDENTIFIER=oomguard\\nOOMGUARD_EVENT=applied\\nOOMGUARD_TARGET=forged\\n', "
            "'/run/systemd/journal/socket')"
        )
        vm.run(["python3", "-c", forged], user="alice")
        vm.run(["journalctl", "--sync"])
        found = json.loads(
            vm.run(
                ["oomguard", "log", "--json", "--pid", pid, "--rule", "vm-logged", "--cause", "policy"]
            ).stdout
        )
        # Its first value may be that of the pass after the first edit.
        assert {entry["cause"] for entry in found} == {"policy"}
        assert (found[-1]["event"], found[-1]["old"], found[-1]["new"]) == ("applied", 100, 321)
        everything = vm.run("oomguard log --event all").stdout
        assert "policy-loaded" in everything
        assert "vm-logged" in everything
        assert "forged" not in everything
        assert "forged" in vm.run("journalctl --no-pager -o export OOMGUARD_TARGET=forged").stdout
