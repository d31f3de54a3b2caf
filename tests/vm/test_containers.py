"""The DaemonSet's pod on a real host, a ConfigMap that is swapped under it, and containers beside it."""

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from .guest import Guest
from .service import CONVERGE_TIMEOUT_SECONDS, STATUS, Service
from .workload import hog

DAEMONSET = Path(__file__).parents[2] / "etc" / "kubernetes" / "daemonset.yaml"
NAME = "oomguard-pod"
ROOT = "/srv/pod"
VOLUME = "/srv/configmap"
"""Where the kubelet would keep the ConfigMap."""

POLICY = "rules: [{{name: pod-victim, oom_score_adj: {value}}}]\n"


def container() -> dict[str, Any]:
    """Return the container of the DaemonSet."""
    for document in yaml.safe_load_all(DAEMONSET.read_text()):
        if document["kind"] == "DaemonSet":
            (found,) = document["spec"]["template"]["spec"]["containers"]
            return dict(found)
    raise AssertionError


def swap(vm: Guest, text: str, *, version: int) -> None:
    """Exchange the ConfigMap as the kubelet does: a new folder, and one rename of the link to it.

    pkg/volume/util/atomic_writer.go: `..data` points to a folder with a time in its name, and the files of
    the volume point into `..data`.
    """
    folder = f"..2026_11_23_{version:02}"
    vm.run(f"mkdir -p -m 777 {VOLUME} && mkdir -m 755 {VOLUME}/{folder}")
    vm.put(f"{VOLUME}/{folder}/policy.yaml", text, mode=0o644)
    vm.run(
        f"cd {VOLUME} && ln -s {folder} ..data_tmp && mv -T ..data_tmp ..data && "
        "{ test -L policy.yaml || ln -s ..data/policy.yaml policy.yaml; }"
    )


def make_root(vm: Guest, folder: str) -> None:
    """Make a root that has the host's /usr mounted, in place of an image from a registry."""
    vm.run(
        f"mkdir -p {folder} && cd {folder} && "
        "mkdir -p usr etc/oomguard proc sys dev run/oomguard tmp host/proc && "
        "ln -sf usr/bin bin && ln -sf usr/lib lib && { test ! -e /usr/lib64 || ln -sf usr/lib64 lib64; } && "
        "cp /etc/passwd /etc/group etc/"
    )


@pytest.fixture(scope="module")
def pod(container_host: Service) -> Iterator[Guest]:
    """Run the DaemonSet's container with podman: the same command, rights and mounts."""
    vm = container_host.vm
    make_root(vm, ROOT)
    vm.run("mkdir -p /run/oomguard")
    swap(vm, POLICY.format(value=321), version=1)
    made = container()
    command = [
        *("podman", "run", "--detach", "--name", NAME, "--pid=host", "--network=host", "--cgroupns=host"),
        *("--privileged", "--read-only", "--user=0", "--log-driver=k8s-file"),
        *("--volume=/usr:/usr:ro", f"--volume={VOLUME}:/etc/oomguard:ro", "--volume=/proc:/host/proc"),
        *("--volume=/run/oomguard:/run/oomguard", "--rootfs", ROOT),
    ]
    vm.run(shlex.join([*command, *made["command"], *made["args"]]), timeout_seconds=300)
    try:
        vm.wait_until(
            "oomguard status --json | grep '\"running\": true'", describe="the pod to keep the policy"
        )
        yield vm
    finally:
        if vm.is_alive:
            vm.run(f"podman rm --force --time 10 {NAME}", check=False, timeout_seconds=300)


def logs(vm: Guest) -> str:
    """Return what the container said."""
    return vm.run(f"podman logs {NAME} 2>&1").stdout


def wait_for_value(vm: Guest, pid: str, value: int) -> None:
    """Wait until a process of the host has a value."""
    vm.wait_for(
        lambda: int(vm.get(f"/proc/{pid}/oom_score_adj")),
        lambda found: found == value,
        f"{pid} to have {value}",
        timeout_seconds=CONVERGE_TIMEOUT_SECONDS,
    )


def test_pod_has_no_right_it_does_not_need(pod: Guest) -> None:
    """It is privileged for its cgroup namespace, and gives up all but three capabilities before it starts."""
    pid = json.loads(pod.get(STATUS))["pid"]
    status = pod.run(f"cat /proc/{pid}/status").stdout
    found = {line.split(":")[0]: line.split()[1] for line in status.splitlines() if line.startswith("Cap")}
    allowed = 1 << 24 | 1 << 1 | 1 << 12  # SYS_RESOURCE, DAC_OVERRIDE, NET_ADMIN
    assert int(found["CapBnd"], 16) == allowed
    assert "NoNewPrivs:\t1" in status
    assert pod.run(f"readlink /proc/{pid}/ns/cgroup").stdout == pod.run("readlink /proc/1/ns/cgroup").stdout


def test_swapped_configmap_is_kept_within_seconds_and_no_restart(pod: Guest) -> None:
    """The kubelet renames a link two folders above the file; the same daemon has the new policy."""
    before = json.loads(pod.get(STATUS))
    with hog(pod, "pod-victim") as pid:
        wait_for_value(pod, pid, 321)
        swap(pod, POLICY.format(value=654), version=2)
        wait_for_value(pod, pid, 654)
        after = json.loads(pod.get(STATUS))
        assert after["pid"] == before["pid"]
        assert after["policy"]["digest"] != before["policy"]["digest"]


def test_configmap_that_is_not_valid_leaves_the_policy_in_force(pod: Guest) -> None:
    """It is said what is wrong; and mended by the next swap."""
    with hog(pod, "pod-victim") as pid:
        swap(pod, "rules: [{name: pod-victim, oom_score_adj: 2000}]\n", version=3)
        pod.wait_until(f"podman logs {NAME} 2>&1 | grep 'from -1000 to 1000'", describe="the refusal")
        assert "the previous one stays in force" in logs(pod)
        wait_for_value(pod, pid, 654)
        swap(pod, POLICY.format(value=111), version=4)
        wait_for_value(pod, pid, 111)


def test_kill_of_the_kernel_is_told(pod: Guest) -> None:
    """The kernel's log came with it as standard input."""
    pod.run(
        "install -m 755 /media/oomguard/vm/hog.py /usr/local/bin/pod-victim; systemd-run --quiet --wait "
        "--unit=pod-kill -p MemoryMax=48M -p MemorySwapMax=0 pod-victim 200 600; "
        "systemctl reset-failed pod-kill",
        check=False,
        timeout_seconds=300,
    )
    pod.wait_until(
        f"podman logs {NAME} 2>&1 | grep 'pod-victim.* was killed by the kernel'", describe="the kill"
    )
    assert "name=pod-victim" in logs(pod)


def test_a_rootful_container_is_left_to_podman_unless_a_rule_names_its_cgroup(pod: Guest) -> None:
    """Its first process lives in a cgroup that podman made; its parent, conmon, in another."""
    pod.run("install -m 755 /media/oomguard/vm/hog.py /usr/local/bin/pod-victim")
    other = f"podman run --detach --network=none --name other --volume=/usr:/usr:ro --rootfs {ROOT}"
    started = pod.run(f"{other} /usr/local/bin/pod-victim 0 100000", timeout_seconds=300).stdout.strip()
    try:
        pid = pod.wait_until("pgrep -x pod-victim", describe="pod-victim").stdout.strip()
        with hog(pod, "pod-witness") as witness:
            rules = "{name: pod-victim, oom_score_adj: 111}, {name: pod-witness, oom_score_adj: 113}"
            swap(pod, f"rules: [{rules}]\n", version=5)
            wait_for_value(pod, witness, 113)
        wait_for_value(pod, pid, 0)
        path = f"/machine.slice/libpod-{started[:8]}*.scope*"
        swap(pod, f"rules: [{{cgroup: '{path}', containers: true, oom_score_adj: 114}}]\n", version=6)
        wait_for_value(pod, pid, 114)
    finally:
        pod.run("podman rm --force --time 1 other", check=False, timeout_seconds=300)


AS_ALICE = (
    "setpriv --reuid=alice --regid=alice --init-groups env HOME=/home/alice XDG_RUNTIME_DIR=/run/user/1000"
    " systemd-run --user --quiet --wait --collect --pipe"
)


def test_a_rootless_container_matches_as_what_its_user_starts_otherwise(pod: Guest) -> None:
    """In a cgroup below the user's own, with the user's rights: no rule needs `containers`."""
    root = "/home/alice/root"
    make_root(pod, root)
    pod.run(
        f"chown -R alice: {root}; install -m 755 /media/oomguard/vm/hog.py /usr/local/bin/pod-rootless;"
        " loginctl enable-linger alice"
    )
    pod.wait_until("test -S /run/user/1000/bus", describe="alice's service manager")
    own = f"podman run --detach --network=none --name own --volume=/usr:/usr:ro --rootfs {root}"
    pod.run(f"{AS_ALICE} {own} /usr/local/bin/pod-rootless 0 100000", check=False, timeout_seconds=300)
    try:
        pid = pod.wait_until("pgrep -x pod-rootless", describe="pod-rootless").stdout.strip()
        assert pod.get(f"/proc/{pid}/uid_map").split()[1] == b"1000"
        swap(pod, "rules: [{name: pod-rootless, user: alice, oom_score_adj: 115}]\n", version=7)
        wait_for_value(pod, pid, 115)
    finally:
        pod.run(f"{AS_ALICE} podman rm --force --time 1 own; loginctl disable-linger alice", check=False)


def test_pod_that_is_gone_leaves_values_and_the_way_back(pod: Guest) -> None:
    """The state folder is the host's, so the host can put back what the pod gave."""
    with hog(pod, "pod-victim") as pid:
        swap(pod, POLICY.format(value=111), version=8)
        wait_for_value(pod, pid, 111)
        pod.run(f"podman stop --time 20 {NAME}", timeout_seconds=120)
        wait_for_value(pod, pid, 111)
        pod.run("oomguard restore")
        wait_for_value(pod, pid, 0)


# The DaemonSet's file itself


IMAGE = """
mkdir -p /srv/image && cd /srv/image
libs=usr/lib/$(uname -m)-linux-gnu
mkdir -p etc usr/bin $libs
ln -s usr/bin bin; ln -s usr/lib lib; ln -s $libs lib64
cp /etc/passwd /etc/group etc/
cp /usr/bin/sh /usr/bin/setpriv /usr/bin/grep /usr/bin/python3 usr/bin/
cp -a /usr/bin/oomguard usr/bin/
unneeded='--exclude=test --exclude=pip --exclude=dist-packages'
(cd / && tar -c $unneeded usr/lib/python3* usr/lib/oomguard*) | tar -x
modules=$(find usr/lib/oomguard usr/lib/python3.*/lib-dynload/_ctypes.*.so -name '*.so')
cp -L $(ldd usr/bin/* $modules | grep -o '/[^ )]*[.]so[^ :)]*' | sort -u) $libs/
tar -c . | podman import --quiet - localhost/oomguard
"""
"""Makes the image of etc/kubernetes/Containerfile from the guest's own files: no registry can be reached."""


def play(vm: Guest, policy: str) -> int:
    """Have podman do with the DaemonSet and a ConfigMap what a cluster would; return the daemon's pid."""
    configmap = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "oomguard-policy"},
        "data": {"policy.yaml": policy},
    }
    vm.put("/root/configmap.yaml", yaml.safe_dump(configmap))
    vm.put("/root/daemonset.yaml", DAEMONSET.read_bytes())
    played = "podman kube play --replace --configmap /root/configmap.yaml /root/daemonset.yaml"
    vm.run(played, timeout_seconds=600)
    vm.wait_until(
        "oomguard status --json | grep '\"running\": true'", describe="the pod to enforce the policy"
    )
    return int(json.loads(vm.get(STATUS))["pid"])


def test_the_daemonset_is_played_replaced_and_deleted(container_host: Service, suite: str) -> None:
    """The file as shipped. A new ConfigMap brings a new pod; values stay until they are restored."""
    if suite == "bookworm":
        pytest.skip("podman plays a DaemonSet from version 5 on")
    vm = container_host.vm
    vm.run(IMAGE, timeout_seconds=600)
    # As the runtimes of Kubernetes do for a privileged container.
    vm.put("/etc/containers/containers.conf.d/kubelet.conf", '[containers]\ncgroupns = "host"\n')
    with hog(vm, "pod-victim") as victim:
        first = play(vm, POLICY.format(value=321))
        wait_for_value(vm, victim, 321)
        assert play(vm, POLICY.format(value=654)) != first
        wait_for_value(vm, victim, 654)
        vm.run("podman kube down /root/daemonset.yaml", timeout_seconds=300)
        assert vm.run("podman ps --quiet").stdout == ""
        wait_for_value(vm, victim, 654)
        vm.run("oomguard restore")
        wait_for_value(vm, victim, 0)
