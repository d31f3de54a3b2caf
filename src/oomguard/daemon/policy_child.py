"""The policy, read by a short-lived child, so that pydantic and PyYAML never enter the daemon.

The child (`python -m oomguard.policy PATH`) writes one line with the result, then the compiled policy as
`core.serialize.encode` makes it. If it hangs or crashes, the daemon keeps its policy.
"""

import json
import os
import signal
import time
from collections.abc import Callable

from oomguard.core.errors import OomguardError
from oomguard.core.host import Host
from oomguard.core.policy import Policy, policy_option
from oomguard.daemon.loop import Loop
from oomguard.kernel.own import python_command
from oomguard.reconcile.policy_cache import Answer, Copy

DEADLINE_SECONDS = 120.0
"""A policy at its limits takes a few seconds of CPU time, and the child may use no more than 20. On a host
that thrashes, it may wait a minute for them. This ends a child that hangs."""

_CHUNK = 65536
_OUTPUT_LIMIT = 64 * 1024 * 1024


class PolicyRejectedError(OomguardError):
    """The policy files are not valid; `message` has every fault, one per line."""

    exit_code = 78


class StoppedError(OomguardError):
    """The daemon was told to stop before it had a policy, which is no failure."""

    exit_code = 0


class PolicyChild:
    """One reading of the policy, for a host with these facts.

    `fd` is readable when there is more to receive. `copy` gets the output as it comes.
    """

    def __init__(self, path: str, host: Host | None, *, deadline: float, copy: Copy) -> None:
        self._hint = f"run `oomguard check{policy_option(path)}` to see why"
        reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            os.set_blocking(writer, True)
            facts = () if host is None else (json.dumps(host._asdict()),)
            command = python_command("oomguard.policy", path, *facts)
            self.pid = os.posix_spawn(
                command[0],
                command,
                os.environ,
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_DUP2, writer, 1),
                ],
                setpgroup=0,  # signals from the terminal, such as Ctrl-C, are for the daemon only
                setsigmask=[],
                setsigdef=[signal.SIGPIPE],
            )
        except BaseException:
            os.close(reader)
            raise
        finally:
            os.close(writer)
        self.fd = reader
        self.deadline = deadline
        self.copy = copy
        self.answer = Answer()
        self.cpu_seconds = 0.0
        """What it took, once it is finished."""
        self._error = ""

    def receive(self) -> bool:
        """Read the available output; return True when the child is done."""
        while True:
            try:
                chunk = os.read(self.fd, _CHUNK)
            except BlockingIOError:
                return False
            if not chunk:
                return True
            if self.answer.size > _OUTPUT_LIMIT:
                self._error = "its answer is too long"
                os.kill(self.pid, signal.SIGKILL)
                return True
            self.copy.add(chunk)
            try:
                self.answer.feed(chunk)
            except (ValueError, TypeError, RecursionError) as error:
                self._error = str(error)

    def kill(self) -> None:
        """Kill a child that is not done."""
        os.kill(self.pid, signal.SIGKILL)
        self._reap()

    def finish(self) -> Policy:
        """Return the policy of a child that is done, or raise the error."""
        status, self.cpu_seconds = self._reap()
        try:
            if self.answer.header.get("ok") is False:
                raise PolicyRejectedError("\n".join(self.answer.header["lines"]))
            if status == 0 and not self._error:
                return self.answer.policy()
        except (ValueError, KeyError, TypeError) as error:
            self._error = str(error)
        raise OomguardError(
            f"cannot read the policy: the process that reads it {_ending(status, self.cpu_seconds)}"
            + (f" ({self._error})" if self._error else ""),
            hint=self._hint,
        )

    def _reap(self) -> tuple[int, float]:
        os.close(self.fd)
        _, status, usage = os.wait4(self.pid, 0)
        return status, usage.ru_utime + usage.ru_stime

    def wait(self, loop: Loop, is_stopping: Callable[[], bool]) -> None:
        """Wait until it is done; `loop` handles only signals meanwhile.

        It is killed if it takes too long (OomguardError), or if `is_stopping` after a signal (StoppedError).
        """
        while not self.receive():
            in_time = loop.wait_for(self.fd, self.deadline - time.monotonic())
            if in_time and not is_stopping():
                continue
            self.kill()
            if in_time:
                raise StoppedError("stopped before the policy was read")
            raise OomguardError(
                f"reading the policy took more than {DEADLINE_SECONDS:.0f} s", hint=self._hint
            )


def _ending(status: int, cpu_seconds: float) -> str:
    if os.WIFSIGNALED(status):  # SIGKILL also tells that it reached its limit
        number = os.WTERMSIG(status)
        names = {one.value: one.name for one in signal.Signals}  # most real-time signals have none
        name = names.get(number, f"signal {number}")
        return f"was killed by {name} after {cpu_seconds:.0f} s of CPU time"
    return f"exited with {os.WEXITSTATUS(status)}"
