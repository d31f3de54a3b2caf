"""What protected programs start: with real programs that have their own opinion, and real capabilities."""

from collections.abc import Iterator
from contextlib import contextmanager

from .guest import Guest
from .service import Service
from .workload import family

PARENT = """\
# Waits for its value, starts one child, and a daemon that forks twice to be nobody's child.
until [ "$(cat /proc/$$/oom_score_adj)" != 0 ]; do sleep 0.2; done
vm-child 1000 &
(setsid sh -c 'vm-orphan 1000 & exit' &)
wait
"""


def pid_of(vm: Guest, name: str) -> str:
    """Return the pid of the process of that name, as soon as there is one."""
    return vm.wait_until(f"pgrep -x {name}", describe=name).stdout.strip()


def test_what_a_protected_process_starts_is_not_protected(installed: Service) -> None:
    """Neither its child nor an orphan that came of two forks; the parent stays as it is."""
    vm = installed.vm
    since = vm.now()
    installed.write_policy("rules: [{name: vm-parent, user: root, oom_score_adj: -900}]\n")
    with family(vm, PARENT) as parent:
        installed.wait_for_value(f"/proc/{parent}/oom_score_adj", -900)
        for name in ("vm-child", "vm-orphan"):
            installed.wait_for_value(f"/proc/{pid_of(vm, name)}/oom_score_adj", 0)
        assert vm.get(f"/proc/{parent}/oom_score_adj") == b"-900\n"
        installed.wait_for_event("applied", since=since, message="inherited from a managed process")


def test_children_that_started_while_the_daemon_was_down_are_found(installed: Service) -> None:
    """The ledger knows their parent; they have its value and are its children still."""
    vm = installed.vm
    installed.write_policy("rules: [{name: vm-parent, user: root, oom_score_adj: -900}]\n")
    installed.restart()
    vm.put("/run/wait", "")
    script = "while [ -e /run/wait ]; do sleep 0.5; done; vm-child 1000; exit"
    with family(vm, script) as parent:
        installed.wait_for_value(f"/proc/{parent}/oom_score_adj", -900)
        vm.run("systemctl stop oomguard && rm /run/wait")
        child = pid_of(vm, "vm-child")
        assert vm.get(f"/proc/{child}/oom_score_adj") == b"-900\n"
        vm.run("systemctl start oomguard")
        installed.wait_for_value(f"/proc/{child}/oom_score_adj", 0)


@contextmanager
def ssh_server(vm: Guest) -> Iterator[str]:
    """Run sshd with a key for alice; give the pid of its listener."""
    vm.run(
        "ssh-keygen -A; systemctl restart ssh; install -d -m 700 -o alice -g alice /home/alice/.ssh;"
        "rm -f /root/vm-key*; ssh-keygen -q -t ed25519 -N '' -f /root/vm-key;"
        "install -m 600 -o alice -g alice /root/vm-key.pub /home/alice/.ssh/authorized_keys"
    )
    try:
        yield vm.wait_until("systemctl show -P MainPID ssh | grep -v '^0$'", describe="sshd").stdout.strip()
    finally:
        vm.run("systemctl stop ssh; rm -rf /root/vm-key* /home/alice/.ssh", check=False)


def session(vm: Guest, command: str) -> str:
    """Run a command over ssh, as alice."""
    options = "-i /root/vm-key -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
    return vm.run(f"ssh {options} alice@localhost '{command}'", timeout_seconds=120).stdout


def test_sessions_of_a_protected_sshd_are_ordinary(installed: Service) -> None:
    """Sshd gives its listener -1000 and its sessions what it had before; the rule only moves the listener.

    Nobody fights: each value is written once.
    """
    vm = installed.vm
    since = vm.now()
    installed.write_policy("rules: [{name: sshd, scope: main, oom_score_adj: -500}]\n")
    installed.wait_for_event("policy-loaded", since=since)
    with ssh_server(vm) as listener:
        installed.wait_for_value(f"/proc/{listener}/oom_score_adj", -500)
        for _ in range(2):
            assert session(vm, "sleep 1; cat /proc/self/oom_score_adj") == "0\n"
            assert (
                session(vm, "sleep 1; echo -1 >/proc/self/oom_score_adj 2>/dev/null || echo kept").strip()
                == "kept"
            )
        installed.wait_for_value(f"/proc/{listener}/oom_score_adj", -500)
        assert not installed.events("contended", since=since)


def test_what_sshd_puts_by_for_its_sessions_is_taken_from_them(installed: Service) -> None:
    """Given a value before it puts by its own, it gives that one to its sessions; for a moment."""
    vm = installed.vm
    since = vm.now()
    installed.write_policy("rules: [{name: sshd, scope: main, oom_score_adj: {at_most: -900}}]\n")
    installed.wait_for_event("policy-loaded", since=since)
    for _ in range(3):
        with ssh_server(vm) as listener:
            vm.wait_until(f"grep -x -- -1000 /proc/{listener}/oom_score_adj", describe="sshd's own value")
            assert session(vm, "sleep 1; cat /proc/self/oom_score_adj") == "0\n"


def test_the_policy_as_shipped_leaves_sshd_alone(installed: Service) -> None:
    """The listener gives itself -1000, and the sessions are ordinary."""
    vm = installed.vm
    for _ in range(3):
        with ssh_server(vm) as listener:
            vm.wait_until(f"grep -x -- -1000 /proc/{listener}/oom_score_adj", describe="sshd's own value")
            assert session(vm, "sleep 1; cat /proc/self/oom_score_adj") == "0\n"
