"""What an ordinary process may lower itself to, after all that was done to its value.

Tried by another process of the same user: the kernel asks for the writer's CAP_SYS_RESOURCE and the target's
floor, so it comes to the same as the process writing its own file.
"""

from .guest import Guest
from .service import Service
from .workload import family, hog

LADDER = (-1000, -900, -500, -1, 0, 300, 800)


def lowest(vm: Guest, pid: str) -> int:
    """Return the lowest value of LADDER that the process's own user may give it."""
    tries = " ".join(map(str, LADDER))
    script = f"for n in {tries}; do echo $n 2>/dev/null >/proc/{pid}/oom_score_adj && echo $n && break; done"
    return int(vm.run(["sh", "-c", script], user="alice").stdout)


def policy(value: int) -> str:
    """Return a policy that gives alice's process a value."""
    return f"rules: [{{name: vm-floor, user: alice, oom_score_adj: {value}}}]\n"


def test_a_raised_process_may_come_down_again(installed: Service) -> None:
    """To 0, as before; written with the capability it would be stuck at 800."""
    installed.write_policy(policy(800))
    with hog(installed.vm, "vm-floor") as pid:
        installed.wait_for_value(f"/proc/{pid}/oom_score_adj", 800)
        assert lowest(installed.vm, pid) == 0
        installed.wait_for_value(f"/proc/{pid}/oom_score_adj", 800)


def test_a_protected_process_loses_the_right_with_the_value(installed: Service) -> None:
    """While it is protected it may go as low as it is; restored, no lower than it began."""
    vm = installed.vm
    installed.write_policy(policy(-900))
    with hog(vm, "vm-floor") as pid:
        installed.wait_for_value(f"/proc/{pid}/oom_score_adj", -900)
        assert lowest(vm, pid) == -900
        installed.write_policy(policy(-500))
        installed.wait_for_value(f"/proc/{pid}/oom_score_adj", -500)
        assert lowest(vm, pid) == -500
        installed.write_policy("rules: []\n")
        installed.wait_for_value(f"/proc/{pid}/oom_score_adj", 0)
        assert lowest(vm, pid) == 0


def test_a_restore_by_hand_takes_the_right_too(installed: Service) -> None:
    """`oomguard restore` knows from the ledger how the value was given."""
    vm = installed.vm
    installed.write_policy(policy(-900))
    with hog(vm, "vm-floor") as pid:
        installed.wait_for_value(f"/proc/{pid}/oom_score_adj", -900)
        vm.run("systemctl stop oomguard && oomguard restore")
        assert vm.get(f"/proc/{pid}/oom_score_adj") == b"0\n"
        assert lowest(vm, pid) == 0
        vm.run("systemctl start oomguard")


def test_a_child_that_is_reset_does_not_keep_its_ancestors_immunity(installed: Service) -> None:
    """It inherited -1000 and the right to it; both are gone."""
    vm = installed.vm
    installed.write_policy("rules: [{name: vm-parent, user: root, oom_score_adj: -1000}]\n")
    script = "sleep 5; setpriv --reuid alice --regid alice --clear-groups vm-child 1000; exit"
    with family(vm, script) as parent:
        installed.wait_for_value(f"/proc/{parent}/oom_score_adj", -1000)
        child = vm.wait_until("pgrep -x vm-child", describe="the child").stdout.strip()
        installed.wait_for_value(f"/proc/{child}/oom_score_adj", 0)
        assert lowest(vm, child) == 0
        assert vm.get(f"/proc/{parent}/oom_score_adj") == b"-1000\n"
