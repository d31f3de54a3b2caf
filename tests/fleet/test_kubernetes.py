"""The DaemonSet: valid, of one piece, and its very command keeps a ConfigMap's policy."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from oomguard.policy.load import load
from pages import ROOT
from running import Program, oom_score_adj, wait_for_value, wait_until, write_oom_score_adj

FOLDER = ROOT / "etc" / "kubernetes"
NAME = "og-pod-test"

RULE = "resync_interval: 86400\nrules:\n  - name: {name}\n    oom_score_adj: {value}\n"
POD = """\
mount -t tmpfs tmpfs /run
mkdir -p {folder}/proc
mount --bind /proc {folder}/proc
mount -t proc proc /proc
exec "$@"
"""


def documents(file: str) -> list[dict[str, Any]]:
    """Return what a file of manifests has."""
    return list(yaml.safe_load_all((FOLDER / file).read_text()))


def daemon_set() -> dict[str, Any]:
    """Return the DaemonSet."""
    return next(one for one in documents("daemonset.yaml") if one["kind"] == "DaemonSet")


def container() -> dict[str, Any]:
    """Return its one container."""
    (one,) = daemon_set()["spec"]["template"]["spec"]["containers"]
    return dict(one)


def test_the_manifests_fit_the_schema_of_the_api() -> None:
    """Without a cluster, and with no key that the API does not know."""
    validate = pytest.importorskip(
        "kubernetes_validate", reason="kubernetes-validate is missing: sh .ci/extras"
    ).validate
    for document in documents("daemonset.yaml"):
        validate(document, "1.34", strict=True)


def test_the_policy_is_valid_and_the_pieces_name_each_other() -> None:
    """What is generated is what is mounted, what is mounted is what is read."""
    assert not load(str(FOLDER / "policy.yaml")).warnings
    (kustomization,) = documents("kustomization.yaml")
    (generator,) = kustomization["configMapGenerator"]
    pod = daemon_set()["spec"]["template"]["spec"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    mounts = {mount["name"]: mount["mountPath"] for mount in container()["volumeMounts"]}
    assert generator["files"] == ["policy.yaml"]
    assert volumes["policy"]["configMap"]["name"] == generator["name"]
    (image,) = kustomization["images"]
    assert image["name"] == container()["image"]
    pushed = f"podman push {image['newName']}:{image['newTag']}\n"
    assert pushed in (ROOT / "docs" / "fleet.md").read_text()
    assert all((FOLDER / resource).exists() for resource in kustomization["resources"])
    assert f"--policy={mounts['policy']}/policy.yaml" in container()["args"]
    assert f"--proc={mounts['proc']}" in container()["args"]
    assert set(mounts) == set(volumes)


DAEMON_MIB = 15
"""See docs/internals/performance.md."""


def peak_mib(*arguments: str) -> int:
    """Run a verb in a process of its own; return the most memory that it had."""
    program = """
from oomguard.__main__ import main
main()
print(*[line for line in open("/proc/self/status") if line.startswith("VmHWM")])"""
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-2]) // 1024


def test_the_memory_limit_is_enough_for_a_start(tmp_path: Path) -> None:
    """For the daemon, the child that reads the policy (it takes what `check` does), and the startup probe."""
    policy = ["--policy", str(FOLDER / "policy.yaml")]
    child = peak_mib("check", *policy)
    probe = peak_mib("status", "--json", *policy, "--state-dir", str(tmp_path))
    limit = int(container()["resources"]["limits"]["memory"].removesuffix("Mi"))
    assert limit > DAEMON_MIB + child + probe


def test_the_image_is_made_of_files_that_there_are() -> None:
    """The Containerfile is read here, and built nowhere in this suite."""
    for line in (FOLDER / "Containerfile").read_text().splitlines():
        if line.startswith("COPY ") and "--from" not in line:
            *sources, _ = line.split()[1:]
            assert all((ROOT / source).exists() for source in sources), line


class ConfigMap:
    """A volume as the kubelet lays it out: links, and a folder that anybody may write (atomic_writer.go)."""

    def __init__(self, folder: Path, policy: str) -> None:
        self.folder = folder
        folder.mkdir()
        folder.chmod(0o777)
        self._version = 0
        self.swap(policy)
        (folder / "policy.yaml").symlink_to("..data/policy.yaml")

    def swap(self, policy: str) -> None:
        """Put another version in its place, at once."""
        self._version += 1
        version = self.folder / f"..2026_11_23_{self._version}"
        version.mkdir(mode=0o755)
        (version / "policy.yaml").write_text(policy)
        (version / "policy.yaml").chmod(0o644)
        (self.folder / "..data_tmp").symlink_to(version.name)
        (self.folder / "..data_tmp").rename(self.folder / "..data")


@contextmanager
def pod(folder: Path, policy: ConfigMap) -> Iterator[subprocess.Popen[bytes]]:
    """Run the container's command as a pod with hostPID does: with a /proc of its own beside the host's."""
    command = [*container()["command"], *container()["args"]]
    for mount in container()["volumeMounts"]:
        here = {"policy": policy.folder, "proc": folder / "proc"}.get(mount["name"])
        if here is not None:
            command = [word.replace(mount["mountPath"], str(here)) for word in command]
    process = subprocess.Popen(
        ["unshare", "--mount", "sh", "-ec", POD.format(folder=folder), "pod", *command],
        env={**os.environ, "PATH": f"{sys.prefix}/bin:{os.environ['PATH']}"},
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def is_ready(process: subprocess.Popen[bytes]) -> bool:
    """Run the startup probe in the container."""
    assert process.poll() is None
    probe = container()["startupProbe"]["exec"]["command"]
    return (
        subprocess.run(
            ["nsenter", "--mount", "--root", f"--target={process.pid}", *probe],
            env={**os.environ, "PATH": f"{sys.prefix}/bin:{os.environ['PATH']}"},
            stderr=subprocess.DEVNULL,
            check=False,
        ).returncode
        == 0
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="takes root, for mounts of its own")
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="takes setpriv of util-linux")
def test_its_command_keeps_what_a_configmap_says_and_takes_a_swapped_one(tmp_path: Path) -> None:
    """Ready, with few rights, told of foreign writes by the host's own /proc."""
    if subprocess.run(["unshare", "--mount", "true"], check=False).returncode:
        pytest.skip("no mount namespace can be made here, as in a chroot")
    program = Program(tmp_path, NAME)
    pid = program.start("3600")
    policy = ConfigMap(tmp_path / "policy", RULE.format(name=NAME, value=500))
    try:
        with pod(tmp_path, policy) as process:
            wait_until(lambda: is_ready(process), "the startup probe")
            wait_for_value(pid, 500)
            status = Path(f"/proc/{process.pid}/status").read_text()
            allowed = (1 << 1) | (1 << 12) | (1 << 24)  # DAC_OVERRIDE, NET_ADMIN, SYS_RESOURCE
            assert int(status.partition("CapBnd:\t")[2].split()[0], 16) & ~allowed == 0
            assert "NoNewPrivs:\t1\n" in status

            policy.swap(RULE.format(name=NAME, value=600))
            wait_for_value(pid, 600)
            policy.swap("rules: nonsense\n")
            policy.swap(RULE.format(name=NAME, value=700))
            wait_for_value(pid, 700)

            wait_until(lambda: watches(process), "a watch on the process")
            write_oom_score_adj(pid, 1)
            wait_for_value(pid, 700)
        assert oom_score_adj(pid) == 700
    finally:
        program.end()


def watches(process: subprocess.Popen[bytes]) -> bool:
    """Tell whether it watches a value; the pass that would find a change is a day away."""
    status = Path(f"/proc/{process.pid}/root/run/oomguard/status.json").read_text()
    return bool(yaml.safe_load(status)["watches"])
