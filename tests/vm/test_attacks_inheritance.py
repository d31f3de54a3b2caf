"""Nobody keeps protection that was inherited, with or without events that say who forked whom."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from .attack import attack
from .guest import Guest
from .service import Service
from .workload import STORM, churn, unit, wait_for_values

WAYS = ("fork", "orphan", "subreaper", "lower", "raise", "hop", "namespace", "share")
"""See attacks/keeper.c."""

POLICY = "resync_interval: 5\nrules: [{name: starter, user: root, oom_score_adj: -900}]\n"
LIVING = "ps -C keeper -o stat=,pid= | awk '$1 !~ /^Z/ { print $2 }'"
"""What is dead keeps its value until its parent asks for it, and no memory."""

VALUES = f"for p in $({LIVING}); do cat /proc/$p/oom_score_adj; done 2>/dev/null | sort -n | uniq -c"
FLAGS = "/run/starter-go /run/starter-done /run/keeper-go"


@contextmanager
def starter(vm: Guest, rounds: int, way: str) -> Iterator[str]:
    """Run a service of root's that is protected, and starts `rounds` programs of alice's once it may."""
    program, keeper = attack(vm, "starter"), attack(vm, "keeper")
    vm.run(f"rm -f {FLAGS}")
    try:
        with unit(vm, "vm-starter", f"{program} 1000 {rounds} {keeper} {way}", below="system.slice"):
            yield vm.wait_until("pgrep -x starter", describe="starter").stdout.strip()
    finally:
        vm.run(f"rm -f {FLAGS}", check=False)


def values(vm: Guest) -> dict[int, int]:
    """Return how many of alice's processes have each value."""
    lines = vm.run(VALUES).stdout.split("\n")
    return {int(value): int(count) for count, value in (line.split() for line in lines if line)}


def may_lower_themselves(vm: Guest) -> str:
    """Return the pids of alice's processes that she may give a value below 0, and does."""
    script = f"for p in $({LIVING}); do echo -1 2>/dev/null >/proc/$p/oom_score_adj && echo $p; done; :"
    return vm.run(["sh", "-c", script], user="alice").stdout.strip()


def start_them(vm: Guest, rounds: int, way: str) -> None:
    """Have alice's programs started, and wait until all of them got where they want to be."""
    count = {"subreaper": 2 * rounds, "share": 2 * rounds, "hop": 1}.get(
        way, rounds
    )  # those are hard to count
    vm.run("touch /run/starter-go")
    vm.wait_until(
        f"test -e /run/starter-done && test $({LIVING} | wc -l) -ge {count}", describe=f"{count} keepers"
    )


def assert_nothing_was_kept(installed: Service) -> None:
    """Every value is ordinary after two passes, whatever its process tries then.

    One that hops may be ahead of an emulated daemon for as long as it hops.
    """
    vm = installed.vm
    installed.wait_for_passes(2)
    vm.run("touch /run/keeper-go; sleep 1")
    vm.wait_until(f"! {{ {VALUES}; }} | grep -v ' 0$'", describe="ordinary values")
    assert set(values(vm)) == {0}
    assert may_lower_themselves(vm) == ""


@pytest.mark.parametrize("way", WAYS)
def test_no_way_keeps_what_was_inherited(installed: Service, way: str) -> None:
    """Thirty times each, as a user's jobs under a protected cron; the service keeps its own value."""
    rounds = 3 if way == "hop" else 30  # an emulated processor has no time for more
    installed.write_policy(POLICY)
    with starter(installed.vm, rounds, way) as pid:
        installed.wait_for_value(f"/proc/{pid}/oom_score_adj", -900)
        start_them(installed.vm, rounds, way)
        assert_nothing_was_kept(installed)
        assert installed.vm.get(f"/proc/{pid}/oom_score_adj") == b"-900\n"


@pytest.mark.parametrize("way", WAYS)
def test_no_way_keeps_what_was_inherited_while_no_daemon_ran(installed: Service, way: str) -> None:
    """Without it they do keep it; then the first passes find them, though nothing tells whose they were."""
    vm = installed.vm
    installed.write_policy(POLICY)
    with starter(vm, 3, way) as pid:
        installed.wait_for_value(f"/proc/{pid}/oom_score_adj", -900)
        vm.run("systemctl stop oomguard")
        start_them(vm, 3, way)
        vm.run("sleep 0.5")
        assert way == "hop" or may_lower_themselves(vm) != ""  # that one is gone before it is asked
        vm.run("systemctl start oomguard")
        assert_nothing_was_kept(installed)


def test_no_way_keeps_what_was_inherited_without_events(installed: Service) -> None:
    """Where no connector reaches, a pass a second finds what forks would tell."""
    installed.write_policy(POLICY)
    with installed.unit_settings("PrivateNetwork=yes"), starter(installed.vm, 30, "orphan") as pid:
        installed.wait_for_value(f"/proc/{pid}/oom_score_adj", -900)
        start_them(installed.vm, 30, "orphan")
        assert_nothing_was_kept(installed)


def test_a_fork_that_crosses_the_reset_keeps_nothing(installed: Service) -> None:
    """The kernel copies the value before it stamps the fork, further apart on a busy host; no pass helps."""
    installed.write_policy(POLICY.replace("5", "3600"))
    with churn(installed.vm, "vm-churn", rate=STORM), starter(installed.vm, 100, "fork") as pid:
        installed.wait_for_value(f"/proc/{pid}/oom_score_adj", -900)
        start_them(installed.vm, 100, "fork")
        wait_for_values(installed.vm, "keeper", 0, count=100)


def test_a_units_own_value_stays(installed: Service) -> None:
    """OOMScoreAdjust= of a person's service is the administrator's, though it equals what a rule gives."""
    vm = installed.vm
    installed.write_policy(POLICY)
    with starter(vm, 1, "orphan") as pid:
        installed.wait_for_value(f"/proc/{pid}/oom_score_adj", -900)
        vm.run("install -m 755 /bin/sleep /usr/local/bin/keeper")
        settings = ("User=alice", "OOMScoreAdjust=-900")
        with unit(vm, "vm-own", "keeper 1000", *settings, below="system.slice"):
            vm.wait_until("pgrep -x keeper", describe="keeper")
            installed.wait_for_passes(2)
            assert set(values(vm)) == {-900}


def test_what_root_gives_a_users_program_stays(installed: Service) -> None:
    """`choom` before `runuser`: root's shell has another value, and is there to show it."""
    vm = installed.vm
    installed.write_policy(POLICY)
    with starter(vm, 1, "orphan") as pid:
        installed.wait_for_value(f"/proc/{pid}/oom_score_adj", -900)
        vm.run("install -m 755 /bin/sleep /usr/local/bin/keeper")
        script = "choom -n -900 -- runuser -u alice -- sh -c 'keeper 1000; exit'; exit"
        with unit(vm, "vm-root", f'sh -c "{script}"', below="user.slice"):
            vm.wait_until("pgrep -x keeper", describe="keeper")
            installed.wait_for_passes(2)
            assert values(vm) == {-900: 1}
