"""Runs the steps of a page in namespaces of their own: JSON in, JSON out.

It is process 1 of a PID namespace, so that a policy reaches no other process of the host, and all it
started ends with it; what is tried with a network is in the host's, where process events are. /etc, /usr/lib
and /run are its own, and what is written there is gone with it. The rest is the host's.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PATIENCE_SECONDS = 60.0
NETWORK_PATIENCE_SECONDS = 600.0
"""For what installs packages, on a busy host."""

LEFT_OUT = shutil.ignore_patterns(".venv*", ".git", "__pycache__", ".*_cache", ".hypothesis", "build", "dist")


def prepare(root: Path, environment: str | None) -> Path:
    """Mount what is private, put a copy of the tree there, and make it the working directory."""
    mount("tmpfs", "tmpfs", "/run", "mode=755")
    for folder in ("/etc", "/srv", "/usr/lib"):
        own = f"/run/own{folder}"
        os.makedirs(f"{own}/upper")
        os.mkdir(f"{own}/work")
        mount("overlay", "overlay", folder, f"lowerdir={folder},upperdir={own}/upper,workdir={own}/work")
    tree = Path("/run/tree")
    os.makedirs(tree / "bin")
    shutil.copytree(root, tree, ignore=LEFT_OUT, dirs_exist_ok=True)
    for folder in ("/etc/oomguard.d", "/usr/lib/oomguard.d"):
        shutil.rmtree(folder, ignore_errors=True)
        os.mkdir(folder)
    for file in ("/etc/oomguard.yaml", "/usr/lib/oomguard.d/90-default.yaml"):
        shutil.copyfile(root / "etc" / os.path.basename(file), file)
        os.chmod(file, 0o644)
    path = f"{tree}/bin:{os.environ['PATH']}"
    if environment is not None:
        os.symlink(environment, tree / ".venv")
        path = f"{environment}/bin:{path}"
    os.environ |= {"PATH": path, "COLUMNS": "110", "LC_ALL": "C.UTF-8", "TERM": "dumb", "HOME": "/run"}
    os.environ.pop("NO_COLOR", None)
    os.chdir(tree)
    return tree


def mount(kind: str, source: str, target: str, options: str) -> None:
    """Mount, or end: without its own folders nothing may run here."""
    subprocess.run(["mount", "-t", kind, "-o", options, source, target], check=True)


class Background:
    """A command that goes on."""

    def __init__(self, script: str, *, patience_seconds: float) -> None:
        self.log = Path(f"/run/background-{time.monotonic_ns()}.log")
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                ["sh", "-ec", script], stdout=log, stderr=subprocess.STDOUT, process_group=0
            )
        wait_until(
            lambda: "started" in self.log.read_text(),
            lambda: f"{script}: {self.log.read_text()}",
            patience_seconds=patience_seconds,
        )

    def end(self) -> int:
        """Press Ctrl-C; return how it ends: 0 also where its shell then dies of the same signal."""
        os.killpg(self.process.pid, signal.SIGINT)
        status = self.process.wait(PATIENCE_SECONDS)
        return 0 if status == -signal.SIGINT else status


def write(step: dict[str, Any]) -> dict[str, Any]:
    """Write a file that a page shows, and let a daemon that runs take it."""
    before = digest_in_force()
    path = Path(step["path"])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(step["text"])
    path.chmod(0o644)
    if before and step["path"].startswith("/etc/oomguard"):
        wait_until(lambda: digest_in_force() != before, lambda: f"the daemon did not load {path}")
    return {"status": 0, "printed": ""}


def digest_in_force() -> str:
    """Return the digest of the policy that a daemon keeps, "" where none runs."""
    status = Path("/run/oomguard/status.json")
    if not status.exists():
        return ""
    document = json.loads(status.read_text())
    return str(document["policy"]["digest"]) if os.path.exists(f"/proc/{document['pid']}") else ""


def wait_until(
    happened: Callable[[], bool], what: Callable[[], str], *, patience_seconds: float = PATIENCE_SECONDS
) -> None:
    """Wait for something, or end with what did not come."""
    end = time.monotonic() + patience_seconds
    while not happened():
        if time.monotonic() > end:
            raise SystemExit(f"not within {patience_seconds:.0f} s: {what()}")
        time.sleep(0.05)


def patience(step: dict[str, Any]) -> float:
    """Return the seconds that a step may take."""
    return NETWORK_PATIENCE_SECONDS if step["where"] == "network" else PATIENCE_SECONDS


def run(step: dict[str, Any]) -> dict[str, Any]:
    """Run a block of commands; what it leaves behind in the background stays."""
    log = Path("/run/printed")
    with log.open("w") as printed:
        done = subprocess.run(
            ["sh", "-ec", step["text"]],
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=subprocess.STDOUT,
            timeout=patience(step),
            check=False,
        )
    return {"status": done.returncode, "printed": log.read_text(errors="backslashreplace")}


def main() -> None:
    """Do all steps, and tell what came of each."""
    told = json.load(sys.stdin)
    prepare(Path(told["root"]), told["environment"])
    results = []
    background: list[Background] = []
    ended = []
    for step in told["steps"]:
        if step["afterwards"]:
            ended += [one.end() for one in background]
            background.clear()
        if step["path"]:
            results.append(write(step))
        elif step["background"]:
            background.append(Background(step["text"], patience_seconds=patience(step)))
            results.append({"status": step["status"], "printed": background[-1].log.read_text()})
        else:
            results.append(run(step))
    ended += [one.end() for one in background]
    json.dump({"results": results, "ended": ended}, sys.stdout)


if __name__ == "__main__":
    main()
