"""Kills that are not the kernel's: each is a report in the program's own words."""

import json
from pathlib import Path

import pytest

from oomguard.oom.log_reader import OomLog
from oomguard.oom.postmortem import examine
from oomguard.oom.report import Report
from oomguard.report.postmortem import Incident, facts, headline

SYSLOG = "Oct 12 19:00:20 db1 "
APP = "/user.slice/user-1000.slice/user@1000.service/app.slice/app-firefox.scope"
KILLER = "The OOM killer killed a process of"
LINES = {
    "systemd-oomd": (
        (
            f"systemd-oomd[812]: Killed {APP} due to memory pressure for /user.slice/user-1000.slice being "
            "78.12% > 50.00% for > 20s with reclaim activity"
        ),
        (
            "Not the kernel: systemd-oomd killed app-firefox.scope (uid 1000) for memory pressure 78.12 %, "
            "more than 50 %."
        ),
    ),
    "systemd-oomd, swap": (
        (
            f"systemd-oomd[812]: Killed {APP} due to memory used (16000) / total (16384) and swap used (9) / "
            "total (8192) being more than 90.00%"
        ),
        (
            "Not the kernel: systemd-oomd killed app-firefox.scope (uid 1000) for memory used 97.66 % and "
            "swap used 0.11 %, more than 90 %."
        ),
    ),
    "systemd-oomd, in percent": (
        (
            f"systemd-oomd[812]: Killed {APP} due to memory used (98%) and swap used (91%) being more than "
            "90.00%"
        ),
        (
            "Not the kernel: systemd-oomd killed app-firefox.scope (uid 1000) for memory used 98 % and "
            "swap used 91 %, more than 90 %."
        ),
    ),
    "earlyoom": (
        'earlyoom[501]: sending SIGTERM to process 4711 uid 1000 "chrome": badness 853, VmRSS 2134 MiB',
        "Not the kernel: earlyoom killed chrome[4711] for low memory.",
    ),
    "earlyoom 1.8": (
        (
            'earlyoom[501]: sending SIGKILL to process 4711 uid 1000 "a": b": oom_score 123, oom_score_adj 0,'
            ' VmRSS 2 MiB, cmdline "x"'
        ),
        'Not the kernel: earlyoom killed a": b[4711] for low memory.',
    ),
    "systemd-oomd, newer": (
        (
            f"systemd-oomd[812]: Marked {APP} for killing due to memory pressure for /user.slice being "
            "85.03% > 80.00% for > 2s with reclaim activity"
        ),
        (
            "Not the kernel: systemd-oomd killed app-firefox.scope (uid 1000) for memory pressure 85.03 %, "
            "more than 80 %."
        ),
    ),
    "earlyoom 1.3": (
        'earlyoom[501]: killing process 27541 "bash" with signal 15: badness 550, VmRSS 7609 MiB',
        "Not the kernel: earlyoom killed bash[27541] for low memory.",
    ),
    "earlyoom 1.1": (
        "earlyoom[501]: Killing process 'bash' with signal 15, pid: 5874, badness: 538, VmRSS: 3160 MiB",
        "Not the kernel: earlyoom killed bash[5874] for low memory.",
    ),
    "nohang": (
        "nohang[600]:   Sending SIGTERM to the victim",
        "Not the kernel: nohang killed a process for low memory.",
    ),
    "nohang, old": (
        "nohang[600]:   Send SIGTERM to the victim; response time: 9 ms",
        "Not the kernel: nohang killed a process for low memory.",
    ),
    "lmkd": (
        "lowmemorykiller: Kill 'com.example' (6870), uid 10083, oom_score_adj 900 to free 27kB rss, 9kB swap",
        "Not the kernel: Android's low memory killer killed com.example[6870] for low memory.",
    ),
    "lmkd, Samsung": (
        "lmkd    : Reclaim 'com.example' (6870), uid 10083, oom_score_adj 975, state 19 to free 27kB rss",
        "Not the kernel: Android's low memory killer killed com.example[6870] for low memory.",
    ),
    "lmkd, oldest": (
        "lowmemorykiller: send sigkill to 6870 (com.example), adj 900, size 2700",
        "Not the kernel: Android's low memory killer killed com.example[6870] for low memory.",
    ),
    "kubelet": (
        (
            "kubelet[2480]: I1012 19:34:45.445172    2480 eviction_manager.go:595] "
            '"Eviction manager: pod is evicted successfully" pod="default/nginx"'
        ),
        "Not the kernel: kubelet killed pod default/nginx for low resources.",
    ),
    "kubelet, old": (
        (
            "kubelet[2480]: I1012 19:34:45.445172    2480 eviction_manager.go:363] eviction manager: pod "
            "nginx_default(12) is evicted successfully"
        ),
        "Not the kernel: kubelet killed pod nginx_default(12) for low resources.",
    ),
    "systemd": (
        "systemd[1]: nginx.service: A process of this unit has been killed by the OOM killer.",
        "The OOM killer killed a process of nginx.service, says systemd; the kernel's report is missing.",
    ),
    "systemd, in its present words": (
        "systemd[1]: nginx.service: The kernel OOM killer killed some processes in this unit.",
        "The OOM killer killed a process of nginx.service, says systemd; the kernel's report is missing.",
    ),
    "systemd's result": (
        "systemd[1]: nginx.service: Failed with result 'oom-kill'.",
        (
            "The OOM killer or systemd-oomd killed a process of nginx.service, says systemd; their report is "
            "missing."
        ),
    ),
    "containerd": (
        (
            'containerd[472]: time="2026-10-12T19:00:20.0Z" level=info msg="TaskOOM event container_id:'
            '\\"4bcba7fc4369fee4d7d2\\""'
        ),
        f"{KILLER} container 4bcba7fc4369, says containerd; the kernel's report is missing.",
    ),
    "containerd of MicroK8s": (
        'microk8s.daemon-containerd[9]: time="2019" msg="TaskOOM event &TaskOOM{ContainerID:4bcba7fc4369,}"',
        f"{KILLER} container 4bcba7fc4369, says containerd; the kernel's report is missing.",
    ),
    "containerd, old": (
        'containerd[472]: time="2019" msg="TaskOOM event &TaskOOM{ContainerID:4bcba7fc4369fee4,X:[],}"',
        f"{KILLER} container 4bcba7fc4369, says containerd; the kernel's report is missing.",
    ),
    "slurmstepd": (
        (
            "slurmstepd[90]: error: Detected 1 oom-kill event(s) in StepId=123.batch. Some of your processes "
            "may have been killed by the cgroup out-of-memory handler."
        ),
        f"{KILLER} step 123.batch, says slurmstepd; the kernel's report is missing.",
    ),
}


def read(text: str) -> list[Report]:
    """Read a log."""
    return list(OomLog().read([text]))


@pytest.mark.parametrize("name", LINES)
def test_kill_is_a_report_in_the_programs_words(name: str) -> None:
    """It says who killed what, and that it was not the kernel."""
    line, expected = LINES[name]
    (report,) = read(f"{SYSLOG}{line}\n" + "x\n" * 9)
    finding = examine(report)
    assert headline(finding) == expected
    ((label, words),) = facts(Incident(1, finding))
    assert (label, words) == ("Words", line.partition(": ")[2].strip())
    assert (report.when, report.host) == ("Oct 12 19:00:20", "db1")


def test_talos_kills_a_cgroup() -> None:
    """Its own log has the form of the kernel's."""
    line = (
        "user: warning: [2026-08-11T17:20:38Z]: [talos] Sending SIGKILL to cgroup "
        '{"component": "controller-runtime", "cgroup": "/sys/fs/cgroup/kubepods/burstable/podc11"}'
    )
    (report,) = read(line)
    assert (
        headline(examine(report))
        == "Not the kernel: Talos killed /kubepods/burstable/podc11 for memory pressure."
    )


@pytest.mark.parametrize("line", [line.partition("]: ")[2] for line, _ in LINES.values()])
@pytest.mark.parametrize("program", ["alice[7]: ", "kernel: ", "logger: "])
def test_words_of_others_do_not_count(line: str, program: str) -> None:
    """Only behind the name of the program that kills."""
    assert read(f"{SYSLOG}{program}{line}\n") == []


def test_log_of_the_program_itself_has_no_name_of_it() -> None:
    """As it is in a terminal, or with a time in front."""
    words = LINES["earlyoom"][0].partition("]: ")[2]
    for prefix in ("", "Jun 12 06:39:16: ", "> "):
        assert [kill[:2] for report in read(prefix + words) for kill in report.kills] == [(4711, "chrome")]


def test_journal_tells_the_unit() -> None:
    """Anybody can write there under any name; the unit is journald's own."""
    message = LINES["earlyoom"][0].partition(": ")[2]
    entry = {"MESSAGE": message, "_TRANSPORT": "stdout", "SYSLOG_IDENTIFIER": "earlyoom"}
    for unit, count in (("earlyoom.service", 1), ("app.service", 0), (None, 0)):
        assert len(read(json.dumps(entry | ({} if unit is None else {"_SYSTEMD_UNIT": unit})))) == count


def test_systemd_beside_the_kernels_report_is_no_second_one() -> None:
    """It proves the same kill; so does what it says of systemd-oomd's."""
    kernel = (
        "kernel: oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,"
        "oom_memcg=/system.slice/nginx.service,task_memcg=/system.slice/nginx.service,task=nginx,pid=7,uid=33\n"
        f"{SYSLOG}kernel: Memory cgroup out of memory: Killed process 7 (nginx) total-vm:9kB, anon-rss:9kB\n"
    )
    systemd = f"{SYSLOG}{LINES['systemd'][0]}\n"
    (report,) = read(f"{SYSLOG}{kernel}{systemd}")
    assert report.other is None
    assert len(read(f"{SYSLOG}{kernel}{systemd.replace('nginx', 'other')}")) == 2
    oomd = f"{SYSLOG}{LINES['systemd-oomd'][0]}\n"
    also = f"{SYSLOG}systemd[900]: app-firefox.scope: systemd-oomd killed 19 process(es) in this unit.\n"
    assert len(read(oomd + also)) == 1
    assert len(read(also)) == 1


@pytest.mark.parametrize(
    "candidate",
    [
        "  PID: 903309, name: my: sqld, badness: 849",
        "  PID: 903309, Name: my: sqld, badness: 849",
        "  Victim is my: sqld, pid: 903309, badness: 849, VmRSS: 7 MiB, VmSwap: 0 MiB",
    ],
)
def test_nohang_names_the_victim_in_a_line_before(candidate: str) -> None:
    """Each version in its own words; the line counts for one signal, on its own host."""
    nohang, signal = f"{SYSLOG}nohang[600]: ", LINES["nohang"][0].partition(": ")[2]
    text = f"{nohang}{candidate}\n{nohang}{signal}\n{nohang}x\n"
    assert [kill[:2] for report in read(text) for kill in report.kills] == [(903309, "my: sqld")]
    assert [report.kills for report in read(text.replace("db1", "db2", 1))] == [()]
    own = f"{candidate}\n2023-08-10 16:53:26,464: Implementing:\n{signal}\n"
    assert [kill.pid for report in read(own) for kill in report.kills] == [903309]
    assert [report.kills for report in read(f"{SYSLOG}logger: {candidate}\n{nohang}{signal}\n")] == [()]


@pytest.mark.parametrize(
    ("line", "killed"),
    [
        (
            'earlyoom[5]: sending SIGTERM to process 78 uid 9 "sshd": badness ": badness 9, VmRSS 2 MiB',
            'sshd": badness ',
        ),
        (
            "earlyoom[5]: Killing process 'a' with signal ' with signal 15, pid: 78, badness: 5",
            "a' with signal ",
        ),
        ("kubelet[2]: System OOM encountered, victim process: sshd, pid: 1, pid: 78", "sshd, pid: 1"),
        ("nohang[6]: Victim is sshd, pid: 1, pid: 78, badness: 9", "sshd, pid: 1"),
        ("nohang[6]: PID: 78, Name: a, badness: 9, badness: 99", "a, badness: 9"),
        ("lmkd: Kill 'sshd' (1), uid' (78), uid 10010, oom_score_adj 900 to free 1kB", "sshd' (1), uid"),
        ("lmkd: send sigkill to 78 (a), adj 9), adj 900, size 2700", "a), adj 9"),
    ],
)
def test_name_that_looks_like_the_rest_of_a_line_ends_where_it_does(line: str, killed: str) -> None:
    """Anybody can have a process killed, and choose its name: no other one was."""
    signal = "nohang[6]: Sending SIGTERM to the victim"
    text = f"{SYSLOG}{line}\n" + (f"{SYSLOG}{signal}\n" if line.startswith("nohang") else "")
    assert [kill[:2] for report in read(text) for kill in report.kills] == [(78, killed)]


EVENT = "System OOM encountered, victim process: stress-ng-vm, pid: 3103923"
EVENTS = {
    "describe node": f"  Warning  SystemOOM   3m57s (x2 over 1h)      kubelet         {EVENT}\n",
    "describe node, old": f"  Warning  SystemOOM   17m    kubelet, node1  {EVENT}\n",
    "get events": f"53m         Warning   SystemOOM      node/laptop      {EVENT}\n",
    "YAML": f"  message: '{EVENT}'\n",
    "JSON": f'            "message": "{EVENT}",\n',
    "kubelet's log": (
        f'{SYSLOG}kubelet[2480]: I1012 19:34:45.4    2480 event.go:294] "Event occurred" object="node1" '
        f'kind="Node" apiVersion="v1" type="Warning" reason="SystemOOM" message="{EVENT}"\n'
    ),
}


@pytest.mark.parametrize("name", EVENTS)
def test_kubelet_is_evidence_of_the_kernels_kill(name: str) -> None:
    """With the victim; beside the kernel's own line, before or after, it is no second one."""
    event = EVENTS[name]
    (report,) = read(event)
    finding = examine(report)
    assert headline(finding) == (
        "The OOM killer killed stress-ng-vm[3103923], says the kubelet; the kernel's report is missing."
    )
    kernel = "[  1.0] Out of memory: Killed process 3103923 (stress-ng-vm) total-vm:9kB, anon-rss:9kB\n"
    for text in (event + kernel, f"{kernel}x\n{event}"):
        (report,) = read(text)
        assert report.other is None
    assert len(read(event + kernel.replace("3103923", "7"))) == 2


DESCRIBED = """\
Conditions:
  Type            Status  LastHeartbeatTime                Reason                      Message
  MemoryPressure  False   Mon, 12 Oct 2026 19:00:20 +0000  KubeletHasSufficientMemory  enough memory
Events:
  Type     Reason      Age                 From            Message
  ----     ------      ----                ----            -------
  Warning  OOMKilling  2m49s               kernel-monitor  Memory cgroup out of memory: Killed process 50 \
(java) total-vm:1280000kB, anon-rss:768000kB, file-rss:0kB, \
shmem-rss:0kB, UID:0 pgtables:640kB oom_score_adj:985
  Warning  OOMKilling  2m48s               kernel-monitor  Memory cgroup out of memory: Kill process 51 \
(java) score 1973 or sacrifice child
Killed process 51 (java) total-vm:1280000kB, anon-rss:768000kB, file-rss:0kB, shmem-rss:0kB
  Warning  SystemOOM   3m57s (x2 over 1h)  kubelet         System OOM encountered, victim process: a, pid: 52
  Warning  Evicted     4m                  kubelet         The node was low on resource: memory.
"""


def test_description_of_a_node_and_of_a_pod_is_read_whole() -> None:
    """As `kubectl describe` and `kubectl get events -o wide` print it."""
    shown = [headline(examine(report)) for report in read(DESCRIBED)]
    assert sorted(shown) == [
        "Not the kernel: kubelet killed a pod for low memory.",
        "The OOM killer killed a[52], says the kubelet; the kernel's report is missing.",
        "java[50] was killed: a memory cgroup reached its limit.",
        "java[51] was killed: a memory cgroup reached its limit.",
    ]
    wide = (
        DESCRIBED.splitlines()[6].replace("kernel-monitor", "node/a kernel-monitor, a")
        + "   3m      1    a.17b"
    )
    assert [kill.pid for report in read(wide) for kill in report.kills] == [50]
    pod = (
        "Name:  web-7d4b9c\nStatus:  Running\nContainers:\n  app:\n    Last State:  Terminated\n"
        "      Reason:  OOMKilled\n      Exit Code:  137\n    Limits:\n      memory:  64Mi\n"
        "Events:\n  Warning  BackOff  12s  kubelet  Back-off restarting failed container app in pod web\n"
    )
    (report,) = read(pod)
    assert headline(examine(report)).startswith(
        "The OOM killer killed a process of a container, says Kubernetes"
    )


def test_slice_is_that_of_the_kill_before_or_another_one() -> None:
    """The manager repeats a kill for the slices above the unit; systemd-oomd names them."""
    slices = [
        f"{SYSLOG}systemd[1]: {name}.slice: systemd-oomd killed 3 process(es) in this unit." for name in "ab"
    ]
    oomd = (
        f"{SYSLOG}systemd-oomd[8]: Killed /a.slice/x.service due to memory pressure for /a.slice being 78.53%"
    )
    assert [report.other and report.other.victim for report in read("\n".join([oomd, *slices]))] == [
        "/a.slice/x.service",
        "b.slice",
    ]
    killed = "A process of this unit has been killed by the OOM killer."
    units = [f"{SYSLOG}systemd[1]: {unit}: {killed}" for unit in ("session-3.scope", "user-1000.slice")]
    assert len(read("\n".join(units))) == 1
    context = (
        "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=a.slice,mems_allowed=0,oom_memcg=/a.slice,"
        "task_memcg=/a.slice/a-b.slice,task=c.slice,pid=7,uid=0"
    )
    kill = "Memory cgroup out of memory: Killed process 7 (c.slice) total-vm:9kB, anon-rss:9kB"
    (report,) = read(f"{context}\n{kill}")
    assert headline(examine(report)) == "c.slice[7] was killed: a.slice reached its limit."
    assert report.task_memcg == "/a.slice/a-b.slice"


EVICTED = "The node was low on resource: memory. Container nginx was using 166Ki, request is 10Ki."
STATUSES = {
    f"5m   Warning   Evicted   pod/web-1   {EVICTED}": "Not the kernel: kubelet killed pod web-1 for low",
    f"  Warning  Evicted  5m  kubelet  {EVICTED}": "Not the kernel: kubelet killed a pod for low memory.",
    f"Message:          {EVICTED}": "Not the kernel: kubelet killed a pod for low memory.",
    f"  message: '{EVICTED}'": "Not the kernel: kubelet killed a pod for low memory.",
    "      Reason:       OOMKilled": "a container, says Kubernetes",
    '                "reason": "OOMKilled",': "a container, says Kubernetes",
    '            "OOMKilled": true,': "a container, says Kubernetes",
    "web-1   0/1     OOMKilled   1 (20s ago)   113s": "a container, says Kubernetes",
    "2026-10-12T19:00:20-05:00 container oom 29d72966e0beb17d (name=a)": "29d72966e0be, says Docker",
    "2026-10-12 19:00:20.1 +0000 UTC container oom 29d72966e0beb17d (x)": "29d72966e0be, says Docker",
    '2026-10-12 19:00:20.1 +0000 UTC k8s.io /tasks/oom {"container_id":"web"}': "web, says containerd",
}


@pytest.mark.parametrize("line", STATUSES)
def test_status_is_evidence_of_a_kill(line: str) -> None:
    """What a cluster or a runtime shows of it, each line of another kill."""
    (report,) = read(f"{line}\n")
    shown = headline(examine(report))
    assert STATUSES[line] in shown
    kernel = (
        "[  1.0] oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,"
        "oom_memcg=/kubepods,task_memcg=/kubepods/cri-{}29d72966e0beb17d.scope,task=nginx,pid=7,uid=33\n"
        "[  1.1] Memory cgroup out of memory: Killed process 7 (nginx) total-vm:9kB, anon-rss:9kB\n"
    )
    if not shown.startswith("Not"):
        for text in (kernel.format("web-") + line, line + "\n" + kernel.format("web-")):
            assert [report.other for report in read(text)] == [None]
    if "29d72966e0be" in line:
        assert len(read(kernel.replace("29d7", "30d7").format("") + line)) == 2


@pytest.mark.parametrize(
    "line",
    [
        "5m  Warning  Evicted  pod/a  The node was low on resource: ephemeral-storage.",
        '            "OOMKilled": false,',
        "web-1   1/1     Running   1 (20s ago)   113s",
        f"{SYSLOG}app: Reason: OOMKilled",
        f"{SYSLOG}app[7]: container oom 29d72966e0beb17d",
        f"{SYSLOG}app[7]: {EVICTED}",
        "Why is my pod OOMKilled again and again?",
    ],
)
def test_other_words_are_no_evidence(line: str) -> None:
    """Of other resources, other programs, and of people."""
    assert read(f"{line}\n") == []


def test_words_about_slices_and_results_are_no_further_kills() -> None:
    """It counts a kill for each unit above, too, and for the end of the unit."""
    killed = "A process of this unit has been killed by the OOM killer."
    units = [f"{SYSLOG}systemd[1]: {unit}: {killed}\n" for unit in ("web.service", "system.slice")]
    result = f"{SYSLOG}systemd[1]: {{}}: Failed with result 'oom-kill'.\n"
    assert len(read("".join(units) + result.format("web.service"))) == 1
    assert len(read("".join(units) + result.format("db.service"))) == 2
    oomd = f"{SYSLOG}{LINES['systemd-oomd'][0]}\n"
    assert len(read(oomd + result.format("app-firefox.scope"))) == 1


@pytest.mark.parametrize(
    "prefix", [f"{SYSLOG}alice[7]: kubelet SystemOOM ", f"{SYSLOG}alice: SystemOOM ", "kernel: ", "x "]
)
def test_event_of_nobody_is_no_evidence(prefix: str) -> None:
    """Anybody may write the words."""
    assert read(f"{prefix}{EVENT}\n") == []


def test_signals_to_one_process_are_one_kill() -> None:
    """SIGTERM comes first, and SIGKILL where it did not help."""
    line = f"{SYSLOG}{LINES['earlyoom'][0]}\n"
    assert len(read(line + line.replace("SIGTERM", "SIGKILL"))) == 1
    assert len(read(line + line.replace("4711", "4712"))) == 2


def test_kill_of_the_same_unit_an_hour_later_is_another_one() -> None:
    """It may have been started again."""
    line = f"{SYSLOG}{LINES['systemd'][0]}\n"
    assert len(read(line + line)) == 1
    assert len(read(line + line.replace(" 19:", " 20:"))) == 2


def test_reports_of_our_own_kernels_have_no_other_kills() -> None:
    """Nothing in them is taken for one."""
    for path in (Path(__file__).parent.parent / "reports").glob("*.txt"):
        assert all(report.other is None for report in read(path.read_text()))
