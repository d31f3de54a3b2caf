"""One virtual machine: boot it, run commands in it, keep what it said.

A guest has its own kernel, systemd as PID 1, cgroup v2, all capabilities, 1 GiB of memory, no swap and no
network. It is thrown away: its disk is a snapshot that nobody keeps.
"""

import base64
import contextlib
import ctypes
import itertools
import json
import mmap
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

EMULATOR = "qemu-system-x86_64"
PANIC = b"Kernel panic - not syncing"
PATCHED = b"Oops: int3:"
"""A breakpoint that the kernel sets while it patches itself, hit after that, as only emulators do: Linux 7.2
panics so in ktime_get_update_offsets_now, when it switches to the clock of the processor."""

PANIC_GRACE_SECONDS = 20.0
"""How long a panicked guest may take for the rest of its report and the reboot that kernel.panic=N makes."""

BOOT_TIMEOUT_SECONDS = 300.0
ANSWER_GRACE_SECONDS = 60.0
"""What the agent may take beyond a command's own limit: a thrashing, emulated guest is slow."""

POLL_SECONDS = 0.5
PR_SET_PDEATHSIG = 1

Record = dict[str, Any]
"""One journal entry as `journalctl -o json` prints it: all values are strings."""

T = TypeVar("T")


class GuestError(Exception):
    """The guest did not do what a scenario needed from it."""


class GuestLostError(GuestError):
    """The guest is gone, or no longer answers."""


class GuestPanicError(GuestLostError):
    """The guest's kernel panicked."""


class EmulatorError(GuestPanicError):
    """The guest's kernel panicked because of the emulator."""


@dataclass(frozen=True, slots=True)
class Completed:
    """What became of a command; killed by signal N is exit status 128 + N, as in a shell."""

    code: int
    stdout: str
    stderr: str


def accelerator() -> str:
    """KVM where the processor does the work: a KVM made of software alone can not run a stock kernel."""
    hardware = any(Path("/sys/module", module).exists() for module in ("kvm_intel", "kvm_amd"))
    return "kvm" if hardware and os.access("/dev/kvm", os.R_OK | os.W_OK) else "tcg"


def tsc_khz() -> int:
    """Return the rate of this processor's time stamp counter, which qemu hands on to an emulated guest."""
    code = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(bytes.fromhex("0f31 48c1e220 4809d0 c3"))  # rdtsc; shl rdx, 32; or rax, rdx; ret
    rdtsc = ctypes.CFUNCTYPE(ctypes.c_uint64)(ctypes.addressof(ctypes.c_char.from_buffer(code)))

    def moment() -> tuple[int, int]:
        """Return a time in ns and the counter at that time: of some tries, one without a pause in between."""
        tries = [(time.monotonic_ns(), rdtsc(), time.monotonic_ns()) for _ in range(50)]
        begun, ticks, ended = min(tries, key=lambda one: one[2] - one[0])
        return (begun + ended) // 2, ticks

    first = moment()
    time.sleep(0.1)
    last = moment()
    return (last[1] - first[1]) * 1_000_000 // (last[0] - first[0])


def missing_emulator() -> str | None:
    """Why no guest can be booted here, or None."""
    if shutil.which(EMULATOR) is None:
        return f"{EMULATOR} is not installed: run tests/vm/prepare.sh as root"
    return None


class Guest:
    """A running virtual machine; a context manager that ends it.

    `folder` receives `console.log`, `journal.json` (one entry a line, as it happened) and `qemu.log`.
    """

    def __init__(
        self,
        image: Path,
        payload: Path,
        folder: Path,
        *,
        memory_mib: int = 1024,
        cpus: int = 2,
        kernel_arguments: str = "",
        qemu_options: Sequence[str] = (),
        may_reboot: bool = False,
        spare_mib: int = 0,
    ) -> None:
        """Start to boot. Call `wait_for_boot` before anything else.

        Emulated, one CPU is a fifth faster than two, for scenarios in which nothing depends on it. A reboot
        ends the machine, unless it `may_reboot`: a panic must not restart it. `spare_mib` is memory for
        `plug_memory`.
        """
        self.folder = folder
        self.console = folder / "console.log"
        self.journal_stream = folder / "journal.json"
        self.boot_seconds = 0.0
        self._ids = itertools.count(1)
        self._pending = b""
        self._streamed = 0
        self._entries: list[Record] = []
        self._agent, theirs = socket.socketpair()
        self._agent.settimeout(POLL_SECONDS)
        self._monitor, its_end = socket.socketpair()
        for path in self.console, self.journal_stream:
            path.write_bytes(b"")
        command = self._command(image, payload, theirs.fileno(), memory_mib, cpus, kernel_arguments)
        command += qemu_options
        if not may_reboot:
            command.append("-no-reboot")
        if spare_mib:
            command[command.index("-m") + 1] += f",slots=1,maxmem={memory_mib + spare_mib}M"
            command += ["-object", f"memory-backend-ram,id=spare,size={spare_mib}M"]
        command += ["-chardev", f"socket,id=monitor,fd={its_end.fileno()}", "-mon", "chardev=monitor"]
        with theirs, its_end, (folder / "qemu.log").open("wb") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[theirs.fileno(), its_end.fileno()],
                env=os.environ | {"TMPDIR": str(folder)},  # for the snapshot
                preexec_fn=die_with_parent,  # noqa: PLW1509 - there is one thread
            )

    def _command(
        self, image: Path, payload: Path, agent: int, memory_mib: int, cpus: int, kernel_arguments: str
    ) -> list[str]:
        accel = accelerator()
        # no_timer_check: an emulated timer may tick too late for the test that a kernel makes of it at boot,
        # and it panics ("IO-APIC + timer doesn't work").
        # tsc=reliable: on a busy host the kernel finds the emulated one too slow and patches itself, and qemu
        # then runs half of an instruction ("Oops: int3" in sched_clock_tick, Linux 6.12).
        # tsc_early_khz: measured on a busy host, it is wrong, and the guest's clock up to five times fast.
        # norandmaps: with random addresses, qemu translates every library again for each new process.
        # The others save an emulated boot some seconds, as -svm does: it keeps kvm_amd from loading.
        kernel = (
            "console=ttyS0 loglevel=7 root=/dev/vda rw systemd.show_status=0 no_timer_check tsc=reliable "
            f"mitigations=off systemd.condition_needs_update=0 {kernel_arguments}"
        )
        if accel == "tcg":
            kernel += f" norandmaps tsc_early_khz={tsc_khz()}"
        command = [
            EMULATOR, "-M", "q35", "-accel", accel,
            "-cpu", "host" if accel == "kvm" else "qemu64,+pdpe1gb,-svm",
            "-m", str(memory_mib), "-smp", str(cpus), "-nodefaults", "-no-user-config", "-display", "none",
            "-nic", "none", "-kernel", str(image / "vmlinuz"), "-initrd", str(image / "initrd"),
            "-append", kernel, "-serial", f"file:{self.console}",
            "-device", "virtio-rng-pci", "-device", "virtio-serial-pci",
            "-chardev", f"socket,id=agent,fd={agent}", "-device", "virtserialport,chardev=agent,name=agent",
            "-chardev", f"file,id=journal,path={self.journal_stream}",
            "-device", "virtserialport,chardev=journal,name=journal",
        ]  # fmt: skip
        for name, path, access in (
            ("root", image / "root.img", "snapshot=on"),
            ("payload", payload, "readonly=on"),
        ):
            command += [
                "-drive", f"if=none,id={name},format=raw,file={path},{access}",
                "-device", f"virtio-blk-pci,drive={name},serial={name}",
            ]  # fmt: skip
        return command

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Life

    @property
    def is_alive(self) -> bool:
        """Whether the machine runs and its kernel has not panicked."""
        return self._process.poll() is None and not self.has_panicked

    @property
    def has_panicked(self) -> bool:
        """Whether the console shows a kernel panic."""
        return PANIC in self.console.read_bytes()

    def wait_for_boot(self, timeout_seconds: float = BOOT_TIMEOUT_SECONDS) -> None:
        """Return when systemd has started everything and the agent answers."""
        greeting = self._receive(timeout_seconds, lambda message: "state" in message)
        if greeting["state"] not in ("running", "degraded"):
            raise GuestError(f"the guest booted into the state {greeting['state']!r}")
        self.boot_seconds = greeting["uptime_seconds"]

    def reboot(self) -> None:
        """Shut the machine down in order and wait until it has booted again; its disk stays as it is."""
        self.run(["systemd-run", "--quiet", "--on-active=1", "systemctl", "reboot"])  # after the answer
        self.wait_for_boot()

    def expect_panic(self, timeout_seconds: float = 120.0) -> bool:
        """Wait for a kernel panic; return whether the guest then rebooted by itself (`kernel.panic` = N)."""
        deadline = time.monotonic() + timeout_seconds
        while not self.has_panicked:
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise GuestError(f"no kernel panic, see {self.console}")
            time.sleep(POLL_SECONDS)
        try:
            self._process.wait(PANIC_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            return False
        return True  # -no-reboot turns a reboot into an exit

    def plug_memory(self) -> None:
        """Add the spare memory; the kernel uses it if started with `memhp_default_state=online`."""
        self._monitor.sendall(b"device_add pc-dimm,id=dimm,memdev=spare\n")

    def suspend(self, seconds: float) -> None:
        """Suspend it to RAM, and wake it after `seconds`."""
        self.run("systemd-run --quiet --on-active=1 sh -c 'echo mem >/sys/power/state'")
        time.sleep(seconds)
        self._monitor.sendall(b"system_wakeup\n")

    def close(self) -> None:
        """End the machine; what it wrote to `folder` stays."""
        self._process.kill()
        self._process.wait()
        self._agent.close()
        self._monitor.close()

    # Work

    def run(
        self,
        command: str | Sequence[str],
        *,
        user: str | None = None,
        stdin: bytes = b"",
        check: bool = True,
        timeout_seconds: float = 120.0,
    ) -> Completed:
        """Run a shell script (a string) or a program (a list), as root or as `user`, and wait for its end.

        Raises:
            GuestError: it ended with another status than 0 (unless `check` is False), or took too long.
            GuestPanicError: the kernel panicked meanwhile.
            GuestLostError: the guest stopped meanwhile.

        """
        argv = ["/bin/sh", "-c", command] if isinstance(command, str) else list(command)
        if user is not None:
            argv = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "--", *argv]
        encoded = base64.b64encode(stdin).decode()
        request = {"argv": argv, "stdin": encoded, "timeout_seconds": timeout_seconds}
        reply = self._ask("run", request, timeout_seconds + ANSWER_GRACE_SECONDS)
        done = Completed(
            reply["code"],
            base64.b64decode(reply["stdout"]).decode(errors="backslashreplace"),
            base64.b64decode(reply["stderr"]).decode(errors="backslashreplace"),
        )
        if reply["timed_out"]:
            raise GuestError(f"{command!r} took more than {timeout_seconds} s: {done.stdout}{done.stderr}")
        if check and done.code != 0:
            raise GuestError(f"{command!r} ended with {done.code}: {done.stdout}{done.stderr}")
        return done

    def put(self, path: str, content: str | bytes, *, mode: int = 0o644) -> None:
        """Write a file in the guest, as root."""
        raw = content.encode() if isinstance(content, str) else content
        request = {"path": path, "content": base64.b64encode(raw).decode(), "mode": mode}
        self._ask("put", request, ANSWER_GRACE_SECONDS)

    def get(self, path: str) -> bytes:
        """Read a file in the guest, as root."""
        return base64.b64decode(self._ask("get", {"path": path}, ANSWER_GRACE_SECONDS)["content"])

    def wait_for(
        self, ask: Callable[[], T], is_so: Callable[[T], bool], what: str, *, timeout_seconds: float = 300.0
    ) -> None:
        """Repeat a question that `get` or `values` answers, until the answer is as `is_so` asks.

        That costs an emulated guest a tenth of a shell script. It may be about a file that is not there yet.
        """
        deadline = time.monotonic() + timeout_seconds
        while True:
            found: object
            try:
                answer = found = ask()
                if is_so(answer):
                    return
            except GuestLostError:
                raise
            except GuestError as error:
                found = error
            if time.monotonic() > deadline:
                raise GuestError(f"not within {timeout_seconds} s: {what}: {found}")
            time.sleep(POLL_SECONDS)

    def wait_until(
        self, command: str, *, timeout_seconds: float = 300.0, describe: str | None = None
    ) -> Completed:
        """Repeat a shell script until it ends with status 0.

        It takes at most half of the time: an emulated guest has more to do than to be asked.
        """
        deadline = time.monotonic() + timeout_seconds
        while True:
            asked_at = time.monotonic()
            done = self.run(command, check=False)
            if done.code == 0:
                return done
            if time.monotonic() > deadline:
                what = describe or command
                raise GuestError(f"not within {timeout_seconds} s: {what}: {done.stdout}{done.stderr}")
            time.sleep(max(POLL_SECONDS, time.monotonic() - asked_at))

    def now(self) -> float:
        """Return the guest's time in seconds since 1970, for `journal`."""
        return float(self._ask("now", {}, ANSWER_GRACE_SECONDS)["time"])

    def values(self, name: str) -> dict[int, int]:
        """Return how many processes called `name` have which `oom_score_adj`."""
        return dict(self._ask("values", {"name": name}, ANSWER_GRACE_SECONDS)["values"])

    def journal(self, *matches: str, since: float | None = None) -> list[Record]:
        """Return the journal entries of this boot that fit `FIELD=value` matches, the oldest first.

        By time and not by cursor: journalctl skips a matching entry after a cursor that does not match
        (systemd 252).
        """
        span = [] if since is None else [f"--since=@{since:.6f}"]
        self.run(["journalctl", "--sync"])
        command = ["journalctl", "-b", "-o", "json", "--no-pager", "--all", *span, *matches]
        return [json.loads(line) for line in self.run(command).stdout.splitlines() if line.startswith("{")]

    def streamed(self, *, since: float) -> Iterator[Record]:
        """Return the entries that have reached the host: no cost for the guest; the last may be missing."""
        with self.journal_stream.open("rb") as stream:
            stream.seek(self._streamed)
            for line in stream:
                if not line.endswith(b"\n"):
                    break
                self._streamed += len(line)
                with contextlib.suppress(ValueError):  # one that a restart of its sender cut
                    self._entries.append(json.loads(line))
        return (one for one in self._entries if int(one["__REALTIME_TIMESTAMP"]) >= since * 1e6)

    # The agent

    def _ask(self, what: str, request: dict[str, Any], timeout_seconds: float) -> dict[str, Any]:
        number = next(self._ids)
        line = json.dumps({"id": number, "do": what, **request}).encode() + b"\n"
        self._agent.settimeout(ANSWER_GRACE_SECONDS)  # for the whole line: a stopped guest takes nothing
        try:
            self._agent.sendall(line)
        except OSError as error:
            raise self._lost() from error
        finally:
            self._agent.settimeout(POLL_SECONDS)
        reply = self._receive(timeout_seconds, lambda message: message.get("id") == number)
        if "error" in reply:
            subject = request.get("argv") or request.get("path")
            raise GuestError(f"the agent could not {what} {subject}: {reply['error']}")
        return reply

    def _receive(self, timeout_seconds: float, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Wait for a message; others are answers nobody waits for any more."""
        deadline = time.monotonic() + timeout_seconds
        while True:
            while b"\n" in self._pending:
                line, _, self._pending = self._pending.partition(b"\n")
                message: dict[str, Any] = json.loads(line)
                if wanted(message):
                    return message
            try:
                chunk = self._agent.recv(1 << 16)
            except TimeoutError:
                chunk = None
            if chunk:
                self._pending += chunk
            elif chunk == b"" or not self.is_alive:
                raise self._lost()
            elif time.monotonic() > deadline:
                raise GuestLostError(f"no answer within {timeout_seconds} s, see {self.folder}")

    def _lost(self) -> GuestLostError:
        console = self.console.read_bytes()
        if PANIC in console:
            why = console.partition(PANIC)[2].partition(b"\n")[0].decode(errors="replace")
            kind = EmulatorError if PATCHED in console else GuestPanicError
            return kind(f"the guest's kernel panicked{why}; see {self.console}")
        return GuestLostError(f"the guest stopped, see {self.folder}")


def die_with_parent() -> None:
    """Run between fork and exec: an aborted test run leaves no machine behind."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
