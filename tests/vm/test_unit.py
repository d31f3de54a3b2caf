"""The unit as shipped: what its settings really do, on a real systemd and kernel."""

from .service import UNIT, Service
from .workload import churn, hog, unit

LIMIT_SECONDS = 2


def test_systemd_has_nothing_to_say_against_the_unit(installed: Service) -> None:
    """No unknown key, no missing file. The manual is left out: the guest has no `man` to look with."""
    command = ["systemd-analyze", "verify", "--man=no", f"/usr/lib/systemd/system/{UNIT}"]
    done = installed.vm.run(command, check=False)
    assert (done.code, done.stdout, done.stderr) == (0, "", "")


def test_what_systemd_sets_for_a_unit_is_its_original_value(installed: Service) -> None:
    """Newer versions run their executor in the unit's cgroup before they set it, where the rule matches."""
    installed.apply_policy("rules: [{unit: vm-own.service, oom_score_adj: 300}]\n")
    with unit(installed.vm, "vm-own", "sleep 1000", "OOMScoreAdjust=-500"):
        pid = installed.vm.run(["systemctl", "show", "-P", "MainPID", "vm-own"]).stdout.strip()
        installed.wait_for_value(f"/proc/{pid}/oom_score_adj", 300)
        installed.apply_policy("rules: []\n")
        installed.wait_for_value(f"/proc/{pid}/oom_score_adj", -500)


def test_the_daemon_is_real_time_with_all_of_its_threads(installed: Service) -> None:
    """SCHED_FIFO 1. What reads the policy is not: `tests/policy/test_child.py`."""
    with hog(installed.vm, "vm-users") as pid:  # a user's, which a thread reads
        installed.apply_policy("rules: [{name: vm-users, oom_score_adj: 300}]\n")
        installed.wait_for_value(f"/proc/{pid}/oom_score_adj", 300)
    scheduling = installed.vm.run(["chrt", "-a", "-p", str(installed.main_pid)]).stdout
    assert scheduling.count("scheduling policy: SCHED_FIFO\n") >= 2, scheduling
    assert scheduling.count("scheduling policy") == scheduling.count("scheduling priority: 1\n")


def test_a_daemon_that_never_pauses_is_ended_and_started_again(installed: Service) -> None:
    """LimitRTTIME= in this very sandbox, with a program that spins in the daemon's place.

    systemd sets the hard limit with the soft one, so it is SIGKILL that comes (and not SIGXCPU).
    """
    vm = installed.vm
    spin = "ExecStart=/usr/bin/python3 -c 'while True: pass'"
    since = vm.now()
    vm.run(f"systemctl stop {UNIT}")
    with installed.unit_settings("Type=exec", "ExecStart=", spin, "LimitRTTIME=2s", "WatchdogSec=0"):
        vm.wait_until(f"test $(systemctl show -P NRestarts {UNIT}) -gt 0", describe="a restart")
        ends = [
            (entry["EXIT_CODE"], entry["EXIT_STATUS"])
            for entry in vm.journal(f"UNIT={UNIT}", since=since)
            if "EXIT_STATUS" in entry and entry["COMMAND"] == "ExecStart"
        ]
        assert ends[-1] == ("killed", "9"), ends
    assert installed.is_active


def test_nobody_does_more_for_it_than_its_sandbox_allows(installed: Service) -> None:
    """Whoever takes it over is still uid 0, for which PID 1 and the bus start anything."""
    vm = installed.vm
    vm.put(
        "/usr/local/lib/ask.py",
        "import socket, time\n"
        "for path in '/run/systemd/private', '/run/dbus/system_bus_socket':\n"
        "    print(path, socket.socket(socket.AF_UNIX).connect_ex(path), flush=True)\n"
        "notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).connect_ex('/run/systemd/notify')\n"
        "print('notify', notify, flush=True)\n"
        "time.sleep(1000)\n",
    )
    since, ask = vm.now(), "ExecStart=/usr/bin/python3 /usr/local/lib/ask.py"
    with installed.unit_settings("Type=exec", "ExecStart=", ask, "WatchdogSec=0"):
        said = f"journalctl --output=cat --since=@{since:.6f} _SYSTEMD_UNIT={UNIT}"
        vm.wait_until(f"{said} | grep -qx 'notify 0'", describe="its answers")
        answers = dict(line.split() for line in vm.run(said).stdout.splitlines() if line.count(" ") == 1)
    assert answers["notify"] == "0"
    assert answers["/run/systemd/private"] != "0"
    assert answers["/run/dbus/system_bus_socket"] != "0"
    assert installed.is_active


def test_a_daemon_that_is_busy_for_long_is_not(installed: Service) -> None:
    """A burst takes longer than the limit, and the daemon pauses by itself meanwhile.

    The limit is set once it runs: an emulated start takes as long without a pause.
    """
    vm, pid = installed.vm, installed.main_pid
    installed.apply_policy("rules: [{name: 'vm-*', oom_score_adj: 800}]\n")
    rename = "while True:\n  for n in b'vm-a', b'vm-b': f.write(n)"
    vm.put("/tmp/renamer.py", f"f = open('/proc/self/comm', 'wb', 0)\n{rename}\n")
    vm.run(f"prlimit --pid {pid} --rttime={LIMIT_SECONDS}000000")
    before = installed.cpu_ticks()
    with unit(vm, "renamer", "python3 /tmp/renamer.py", "User=alice"), churn(vm, "vm-brief", rate=1000):
        vm.run("sleep 30")
        # The ceiling on CPU time lets a burst take 5 s, and 7 % of the time then.
        vm.wait_for(
            installed.cpu_ticks,
            lambda ticks: ticks - before > 150 * LIMIT_SECONDS,
            f"the storm to keep it busy ({before} ticks before)",
        )
    assert installed.main_pid == pid
    vm.run(f"prlimit --pid {pid} --rttime=10000000")
