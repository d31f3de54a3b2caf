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
        installed.wait_for_value(f"/proc/{pid}/oom_score_adj", 100)  # or its exec may be what changes it
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
        log = ["oomguard", "log", "--json", "--since", f"@{since}"]
        found = json.loads(vm.run([*log, "--pid", pid, "--rule", "vm-logged", "--cause", "policy"]).stdout)
        assert [(entry["event"], entry["old"], entry["new"]) for entry in found] == [("applied", 100, 321)]
        everything = vm.run("oomguard log --event all").stdout
        assert "policy-loaded" in everything
        assert "vm-logged" in everything
        assert "forged" not in everything
        assert "forged" in vm.run("journalctl --no-pager -o export OOMGUARD_TARGET=forged").stdout
