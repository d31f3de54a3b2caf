"""Runs in the guest: carries out what the host asks for, one request after the other.

Requests and replies are JSON objects, one a line, over a virtio serial port. Bytes travel as base64, and a
reply carries the `id` of its request. The suite holds on to the agent while the guest runs out of memory: so
it is exempt from the OOM killer, never gives up on an error, and starts every command as an ordinary process.

    do: run, argv, stdin, timeout_seconds    ->  code, stdout, stderr, timed_out
    do: put, path, content, mode             ->  nothing
    do: get, path                            ->  content
    do: now                                  ->  time, in seconds since 1970
    do: values, name                         ->  values: how many processes called so have which value

Any reply can be `error`, with a text, instead.
"""

import base64
import collections
import contextlib
import ctypes
import json
import os
import signal
import subprocess
import tempfile
import time
from typing import Any

PORT = "/dev/virtio-ports/agent"
SCRATCH = "/var/tmp"
"""On the disk: a tmpfs would count as memory in an OOM scenario."""

ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
}
MCL_CURRENT, MCL_FUTURE = 1, 2


def encode(content: bytes) -> str:
    """Bytes as JSON can carry them."""
    return base64.b64encode(content).decode()


def become_ordinary() -> None:
    """Undo in the child what the agent's unit gave the agent, the floor included."""
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write("0")


def run(request: dict[str, Any]) -> dict[str, Any]:
    """Run one command to its end, or to its time limit, with all it started in its session."""
    with tempfile.TemporaryFile(dir=SCRATCH) as out, tempfile.TemporaryFile(dir=SCRATCH) as err:
        with tempfile.TemporaryFile(dir=SCRATCH) as stdin:
            stdin.write(base64.b64decode(request["stdin"]))
            stdin.seek(0)
            process = subprocess.Popen(
                request["argv"], cwd="/", env=ENVIRONMENT, stdin=stdin, stdout=out, stderr=err,
                start_new_session=True, preexec_fn=become_ordinary,  # noqa: PLW1509 - there is one thread
            )  # fmt: skip
        try:
            process.wait(request["timeout_seconds"])
            timed_out = False
        except subprocess.TimeoutExpired:
            timed_out = True
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        out.seek(0)
        err.seek(0)
        code = process.returncode
        return {
            "code": code if code >= 0 else 128 - code,
            "stdout": encode(out.read()),
            "stderr": encode(err.read()),
            "timed_out": timed_out,
        }


def put(request: dict[str, Any]) -> dict[str, Any]:
    """Replace a file; its folders are made."""
    path = request["path"]
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        os.fchmod(file.fileno(), request["mode"])
        file.write(base64.b64decode(request["content"]))
    return {}


def get(request: dict[str, Any]) -> dict[str, Any]:
    """Read a file as it is now."""
    with open(request["path"], "rb") as file:
        return {"content": encode(file.read())}


def now(_request: dict[str, Any]) -> dict[str, Any]:
    """Return the time."""
    return {"time": time.time()}


def values(request: dict[str, Any]) -> dict[str, Any]:
    """Count the values of all processes of one name, without starting any, which oomguard would look at."""
    name, found = f"{request['name']}\n", collections.Counter[int]()
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):
            with open(f"/proc/{pid}/comm") as file:
                if file.read() != name:
                    continue
            with open(f"/proc/{pid}/oom_score_adj") as file:
                found[int(file.read())] += 1
    return {"values": sorted(found.items())}


OPERATIONS = {"run": run, "put": put, "get": get, "now": now, "values": values}


def answer(line: bytes) -> dict[str, Any]:
    """Carry out one request; whatever goes wrong (out of memory too) is the reply."""
    request = json.loads(line)
    try:
        reply = OPERATIONS[request["do"]](request)
    except Exception as error:  # noqa: BLE001 - the guest must stay reachable
        reply = {"error": f"{type(error).__name__}: {error}"}
    return {"id": request["id"], **reply}


def settled_state() -> str:
    """Wait until systemd has started everything, and return what it says of that.

    Not with its --wait, which does not always come back in a boot that follows a reboot (systemd 257).
    """
    while True:
        asked = subprocess.run(
            ["systemctl", "is-system-running"], stdout=subprocess.PIPE, text=True, check=False
        )
        if asked.stdout.strip() not in ("initializing", "starting"):
            return asked.stdout.strip()
        time.sleep(0.2)


def serve() -> None:
    """Say that the boot is over, then answer for ever."""
    ctypes.CDLL(None).mlockall(MCL_CURRENT | MCL_FUTURE)  # a page fault under memory pressure takes seconds
    with open(PORT, "r+b", buffering=0) as port:

        def send(reply: dict[str, Any]) -> None:
            view = memoryview(json.dumps(reply).encode() + b"\n")
            while view:
                view = view[port.write(view) :]

        send({"state": settled_state(), "uptime_seconds": time.clock_gettime(time.CLOCK_BOOTTIME)})
        pending = b""
        while True:
            chunk = port.read(65536)
            if not chunk:  # the host has hung up, or not called yet
                time.sleep(0.2)
                continue
            pending += chunk
            *lines, pending = pending.split(b"\n")
            for line in lines:
                send(answer(line))


if __name__ == "__main__":
    serve()
