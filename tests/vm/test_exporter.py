"""The exporter's unit as it is shipped: a user of its own, no rights, and what it serves is true."""

import re
from collections.abc import Iterator

import pytest

from .guest import Guest
from .service import Service

UNIT = "oomguard-exporter.service"
URL = "http://127.0.0.1:19177/metrics"
GET = f"python3 -c 'import urllib.request as r; print(r.urlopen(\"{URL}\", timeout=60).read().decode())'"
EXPOSURE_MOST = 2.0


@pytest.fixture
def exporter(installed: Service) -> Iterator[Service]:
    """Start the exporter beside the daemon, as docs/metrics.md says, and stop it again."""
    installed.vm.run(f"systemctl start {UNIT}", timeout_seconds=300)
    yield installed
    if installed.vm.is_alive:
        installed.vm.run(f"systemctl stop {UNIT}; systemctl reset-failed {UNIT}", check=False)


def metrics(vm: Guest) -> dict[str, float]:
    """Return what it serves, by name and labels as they are written."""
    found = {}
    for line in vm.run(GET, timeout_seconds=120).stdout.splitlines():
        if line and not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            found[name] = float(value)
    return found


def test_it_serves_what_the_daemon_keeps(exporter: Service) -> None:
    """As a user that exists only while it runs, and with no capability."""
    vm = exporter.vm
    exporter.write_policy("vm: {swappiness: 33}\nrules: [{name: systemd-journal*, oom_score_adj: -250}]\n")
    exporter.wait_for_value("/proc/sys/vm/swappiness", 33)
    vm.wait_until(f"{GET} | grep -F 'desired{{sysctl=\"vm.swappiness\"}} 33'", describe="the new policy")
    found = metrics(vm)
    assert found["oomguard_up"] == 1
    assert found['oomguard_sysctl_actual{sysctl="vm.swappiness"}'] == 33
    assert found['oomguard_kernel_kills_total{protected="true",rule=""}'] >= 0
    pid = vm.run(f"systemctl show -P MainPID {UNIT}").stdout.strip()
    status = vm.run(f"cat /proc/{pid}/status").stdout
    assert int(re.findall(r"^CapBnd:\s*(\w+)$", status, re.MULTILINE)[0], 16) == 0
    (uid,) = re.findall(r"^Uid:\s*(\d+)", status, re.MULTILINE)
    assert 61184 <= int(uid) <= 65519  # DynamicUser=
    assert vm.get(f"/proc/{pid}/oom_score_adj") == b"500\n"


def test_daemon_that_stops_and_comes_back_is_seen(exporter: Service) -> None:
    """The exporter goes on, and says which it is."""
    vm = exporter.vm
    pid = vm.run(f"systemctl show -P MainPID {UNIT}").stdout
    vm.run("systemctl stop oomguard")
    vm.wait_until(f"{GET} | grep -x 'oomguard_up 0.0'", describe="the daemon to be missed")
    assert "oomguard_memory_committed_bytes" in metrics(vm)
    vm.run("systemctl start oomguard", timeout_seconds=300)
    vm.wait_until(f"{GET} | grep -x 'oomguard_up 1.0'", describe="the daemon to be back")
    assert vm.run(f"systemctl show -P MainPID {UNIT}").stdout == pid


def test_textfile_is_for_node_exporter(installed: Service) -> None:
    """Written by whoever may, readable by everyone, with the same metrics."""
    vm = installed.vm
    vm.run("mkdir -p /var/lib/textfile && oomguard exporter --textfile /var/lib/textfile/oomguard.prom")
    assert "oomguard_up 1.0" in vm.get("/var/lib/textfile/oomguard.prom").decode()
    assert vm.run("stat -c %a /var/lib/textfile/oomguard.prom").stdout.strip() == "644"


def test_it_is_confined(exporter: Service) -> None:
    """By systemd's own measure, and against a scrape from elsewhere."""
    vm = exporter.vm
    exposure = vm.run(f"systemd-analyze security --no-pager {UNIT} | tail -n 1").stdout
    assert float(re.findall(r"(\d+\.\d+)", exposure)[0]) <= EXPOSURE_MOST
    listening = vm.run("ss -Hltn sport = :19177").stdout.split()
    assert listening[3] == "127.0.0.1:19177"
