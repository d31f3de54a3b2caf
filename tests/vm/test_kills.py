"""The kernel kills for real under the shipped unit: the journal says whom, and which rule held the dead."""

import json

from .guest import Guest, accelerator
from .service import Service
from .workload import HOG, fill_memory, hog, kills

POLICY = """\
rules:
  - name: vm-precious
    user: alice
    oom_score_adj: -700
  - name: vm-expendable
    oom_score_adj: 700
"""
PROMPT_SECONDS = 1.0 if accelerator() == "kvm" else 5.0


def delay(installed: Service, entry: dict[str, str], *, since: float) -> float:
    """Return the seconds from the kernel's line to the service's entry, by journald's one clock."""
    pid = entry["OBJECT_PID"]
    said = next(
        one
        for one in installed.vm.journal("_TRANSPORT=kernel", since=since)
        if f"Killed process {pid} " in one["MESSAGE"]
    )
    return (int(entry["__MONOTONIC_TIMESTAMP"]) - int(said["__MONOTONIC_TIMESTAMP"])) / 1e6


def limited_hog(vm: Guest, name: str, *, limit_mib: int, count: int = 1, options: str = "") -> None:
    """Run programs called `name` that take more than their unit may have."""
    vm.run(f"install -m 755 {HOG} /usr/local/bin/{name}")
    others = f"{name} {limit_mib // 2} 600 & " * (count - 1)
    start = f"{others}sleep 3; exec {name} {limit_mib * 2} 600"
    vm.run(
        f"systemd-run --quiet --wait --unit={name} --slice=scenario.slice -p User=alice "
        f"-p MemoryMax={limit_mib}M -p MemorySwapMax=0 {options} sh -c '{start}'; "
        f"systemctl reset-failed {name}",
        check=False,
        timeout_seconds=300,
    )


def test_kill_of_the_whole_host_is_told_with_its_rule(installed: Service) -> None:
    """Who it was, at which value, by which line of the policy; postmortem finds the same in the journal."""
    vm = installed.vm
    installed.write_policy(POLICY)
    since = vm.now()
    with hog(vm, "vm-precious", mib=350) as precious, hog(vm, "vm-expendable", mib=150) as expendable:
        installed.wait_for_value(f"/proc/{precious}/oom_score_adj", -700)
        installed.wait_for_value(f"/proc/{expendable}/oom_score_adj", 700)
        fill_memory(vm)
        *_, last = kills(vm, since=since)
        victim = last.partition("Killed process ")[2].split()[0]
        installed.wait_for_event("killed", since=since, message=f"[{victim}]")
    entries = installed.events("killed", since=since)
    assert len(entries) == len(kills(vm, since=since))
    first = entries[0]
    assert first["OBJECT_PID"] == expendable
    assert first["OOMGUARD_COMM"] == "vm-expendable"
    assert first["OOMGUARD_RULE"] == "name=vm-expendable"
    assert first["OOMGUARD_SOURCE"] == "/etc/oomguard.yaml:5"
    assert (first["OOMGUARD_OOM_SCORE_ADJ"], first["OOMGUARD_CONSTRAINT"]) == ("700", "none")
    print(f"told after {delay(installed, first, since=since):.3f} s")
    explained = vm.run(f"journalctl -x --no-pager --since=@{since:.6f} OOMGUARD_EVENT=killed").stdout
    assert "The kernel killed vm-expendable[" in explained
    assert "oomguard postmortem" in explained
    document = json.loads(vm.run(f"oomguard postmortem --since=@{since:.6f} --json").stdout)
    report = document["reports"][0]
    assert report["victim"]["comm"] == "vm-expendable"
    assert (report["constraint"], report["why"]) == ("none", "highest")
    assert report["given_by"]["rule"] == "name=vm-expendable"
    assert report["release"] == vm.run(["uname", "-r"]).stdout.strip()
    vm.put(
        "/root/other.yaml",
        "rules: [{name: vm-expendable, oom_score_adj: 0}, {name: hog*, oom_score_adj: 900}]\n",
    )
    replayed = vm.run(
        f"oomguard postmortem --since=@{since:.6f} --report 1 --policy /root/other.yaml --json"
    ).stdout
    assert json.loads(replayed)["reports"][0]["policy"]["result"] in ("other", "open")


def test_kill_at_a_limit_is_told_at_once(installed: Service) -> None:
    """A unit at its MemoryMax: the host is at ease, so the entry comes as promptly as it ever does."""
    vm = installed.vm
    installed.apply_policy(POLICY)
    since = vm.now()
    limited_hog(vm, "vm-expendable", limit_mib=48)
    installed.wait_for_event("killed", since=since)
    (entry,) = installed.events("killed", since=since)
    assert entry["OOMGUARD_CONSTRAINT"] == "memcg"
    assert entry["OOMGUARD_OOM_MEMCG"].endswith("/vm-expendable.service")
    assert entry["OOMGUARD_RULE"] == "name=vm-expendable"
    assert "reached its limit" in entry["MESSAGE"]
    assert 0 <= delay(installed, entry, since=since) < PROMPT_SECONDS
    vm.wait_until("oomguard status | grep 'killed .*name=vm-expendable'", describe="the status to count it")
    assert "vm-expendable" in vm.run("oomguard log --event killed").stdout
    said = vm.run(f"oomguard postmortem --since=@{since:.6f}").stdout
    assert "considers only processes in the cgroup" in " ".join(said.split())


def test_group_is_told_process_by_process(installed: Service) -> None:
    """memory.oom.group takes all of a unit; each has an entry, none has two."""
    vm = installed.vm
    installed.apply_policy(POLICY)
    since = vm.now()
    limited_hog(vm, "vm-expendable", limit_mib=64, count=2, options="-p OOMPolicy=kill")
    installed.wait_for_event("killed", since=since)
    vm.wait_until("journalctl --sync", describe="the journal")
    pids = [entry["OBJECT_PID"] for entry in installed.events("killed", since=since)]
    assert len(pids) == len(set(pids)) >= 2
    said = {message.partition("Killed process ")[2].partition(" ")[0] for message in kills(vm, since=since)}
    assert set(pids) == said
    report = json.loads(vm.run(f"oomguard postmortem --since=@{since:.6f} --json").stdout)["reports"][-1]
    assert report["oom_group"].endswith("/vm-expendable.service")
    assert sorted(str(kill["pid"]) for kill in report["killed"]) == sorted(pids)


def test_service_has_no_way_to_the_log_but_what_it_was_given(installed: Service) -> None:
    """It may read what systemd opened for it, and may open nothing of the kind."""
    vm = installed.vm
    pid = installed.main_pid
    assert vm.run(f"readlink /proc/{pid}/fd/0").stdout.strip() == "/dev/kmsg"
    effective = int(vm.run(f"grep CapBnd /proc/{pid}/status").stdout.split()[1], 16)
    assert not effective & 1 << 34  # CAP_SYSLOG
    assert not any("kills are counted" in limit for limit in installed.status()["limits"])
    open_it = f"nsenter --target {pid} --mount -- /usr/bin/python3 -c 'open(\"/dev/kmsg\")'"
    denied = vm.run(open_it, check=False)
    assert "FileNotFoundError" in denied.stderr
