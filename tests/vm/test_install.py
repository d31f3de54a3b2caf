"""The installer, as an administrator of a host without a network runs it."""

import re
from pathlib import Path

from .guest import Guest
from .service import INSTALL_TIMEOUT_SECONDS, INSTALLER, POLICY, UNIT, VENDOR, WHEELS, Service

CATALOG = Path(__file__).parents[2] / "systemd" / "oomguard.catalog"


def test_the_installed_service_runs_and_answers_on_the_path(installed: Service) -> None:
    """Everything a user looks for first is there."""
    vm = installed.vm
    assert vm.run("oomguard --version").stdout.startswith("oomguard ")
    assert vm.run(["systemctl", "is-enabled", UNIT]).stdout == "enabled\n"
    assert vm.run(["systemctl", "show", "-P", "NRestarts", UNIT]).stdout == "0\n"
    assert f"from {POLICY}, {VENDOR}/90-default.yaml" in vm.run("oomguard check").stdout
    assert vm.run("oomguard status").code == 0
    assert vm.run("test -s /usr/share/bash-completion/completions/oomguard").code == 0
    for page in ("man8/oomguard.8", "man5/oomguard.yaml.5"):
        vm.run(["test", "-s", f"/usr/share/man/{page}"])
    assert b"json-schema.org" in vm.get("/usr/share/oomguard/oomguard.schema.json")


def test_the_daemon_is_exempt_from_the_oom_killer_and_has_few_rights(installed: Service) -> None:
    """What the unit promises is what the kernel says of the process."""
    vm = installed.vm
    pid = installed.main_pid
    assert vm.run(["cat", f"/proc/{pid}/oom_score_adj"]).stdout == "-1000\n"
    status = dict(
        line.split(":\t", 1) for line in vm.get(f"/proc/{pid}/status").decode().splitlines() if ":\t" in line
    )
    capabilities = {"cap_dac_override": 1, "cap_net_admin": 12, "cap_sys_resource": 24}
    assert int(status["CapBnd"], 16) == sum(1 << bit for bit in capabilities.values())
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"


def test_the_sandbox_is_as_tight_as_promised(installed: Service) -> None:
    """The measure is systemd's own; its threshold counts tenths.

    Two of them are for capset, and two for sched_setscheduler, by which the reader of the
    policy gives up the priority that the daemon's threads need.
    """
    installed.vm.run(["systemd-analyze", "security", "--threshold=19", UNIT])


def test_the_daemon_sees_the_hosts_own_proc(installed: Service) -> None:
    """In a private /proc no inotify event tells of a write made on the host."""
    vm = installed.vm
    pid = installed.main_pid
    device = "{ print $3; exit }"
    ours = vm.run(f"awk '$5 == \"/proc\" {device}' /proc/self/mountinfo").stdout
    assert vm.run(f"awk '$5 == \"/proc\" {device}' /proc/{pid}/mountinfo").stdout == ours


def test_every_message_is_explained_by_the_catalog(installed: Service) -> None:
    """`journalctl -x` has a paragraph for each message id the program can send."""
    program = "from oomguard.report.events import EVENTS; print(*(event.message_id for event in EVENTS))"
    ids = installed.vm.run(["/usr/lib/oomguard/bin/python3", "-P", "-c", program]).stdout.split()
    assert ids
    known = set(re.findall(r"^-- ([0-9a-f]{32})$", CATALOG.read_text(), re.MULTILINE))
    assert known == set(ids)
    installed.vm.run(["journalctl", "--dump-catalog", *ids])


def test_installing_again_keeps_an_edited_policy(installed: Service) -> None:
    """An upgrade must not undo what the administrator wrote."""
    vm = installed.vm
    installed.write_policy("rules:\n  - {name: never-there, oom_score_adj: 1}\n")
    # In a folder where somebody else has put what Python would import.
    for name in ("pip", "venv", "ensurepip", "json", "shutil"):
        vm.put(f"/var/tmp/trap/{name}.py", "open('/var/tmp/owned', 'w')\n")
    done = vm.run(
        f"cd /var/tmp/trap && sh {INSTALLER} --wheels {WHEELS}", timeout_seconds=INSTALL_TIMEOUT_SECONDS
    )
    vm.run("rm -r /var/tmp/trap; ! test -e /var/tmp/owned")
    assert f"{POLICY} was edited and is kept" in done.stdout
    assert b"never-there" in installed.vm.get(POLICY)
    assert installed.is_active


def test_a_missing_package_is_named(vm: Guest) -> None:
    """Without python3-venv there is no environment to install into, and the message says so."""
    done = vm.run(
        f"unshare --mount sh -c 'mount -t tmpfs none /usr/lib/python3.*/ensurepip; {INSTALLER} --no-start'",
        check=False,
    )
    assert done.code == 1
    assert "install python3-venv" in done.stderr
