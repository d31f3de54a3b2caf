"""The policy, read by a short-lived child: pydantic and PyYAML never enter the daemon.

The child (`python -m oomguard.policy PATH`) writes one line that says how it went, then the
compiled policy as `core.serialize.encode` makes it. Whatever becomes of it, hang or crash, the
daemon goes on with the policy it has.
"""

import json
import os
import select
import signal
import time
from typing import TYPE_CHECKING

from oomguard.core.errors import OomguardError
from oomguard.kernel.own import python_command
from oomguard.reconcile.policy_cache import Answer

if TYPE_CHECKING:
    from oomguard.core.host import Host
    from oomguard.core.policy import Policy
    from oomguard.reconcile.policy_cache import Copy

DEADLINE_SECONDS = 120.0
"""A policy at its bounds takes a few seconds of a processor, and more than 20 are refused. On a host that
thrashes, or starts programs as fast as it can, it may wait a minute for them; this ends one that hangs."""

_CHUNK = 65536
_OUTPUT_LIMIT = 64 * 1024 * 1024


class PolicyRejectedError(OomguardError):
    """The files hold no valid policy; `message` has every fault, one a line."""

    exit_code = 78


class PolicyChild:
    """One reading of the policy in progress, for a host with these facts.

    `fd` is readable when there is more to receive. `copy` gets what it writes, as it comes.
    """

    def __init__(self, path: str, host: "Host | None", *, deadline: float, copy: "Copy") -> None:
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
                setpgroup=0,  # what a terminal sends to the daemon, as Ctrl-C, is not for its reader
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
        self._error = ""

    def receive(self) -> bool:
        """Take what the child wrote; True when it is done."""
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
        """End a child that is not done."""
        os.kill(self.pid, signal.SIGKILL)
        self._reap()

    def finish(self) -> "Policy":
        """Return the policy of a child that is done, or raise why there is none."""
        status = self._reap()
        try:
            if self.answer.header.get("ok") is False:
                raise PolicyRejectedError("\n".join(self.answer.header["lines"]))
            if status == 0 and not self._error:
                return self.answer.policy()
        except (ValueError, KeyError, TypeError) as error:
            self._error = str(error)
        raise OomguardError(
            f"cannot read the policy: the process that reads it {_ending(status)}"
            + (f" ({self._error})" if self._error else ""),
            hint="run `oomguard check` to see why",
        )

    def _reap(self) -> int:
        os.close(self.fd)
        _, status = os.waitpid(self.pid, 0)
        return status

    def wait(self) -> None:
        """Wait until it is done. OomguardError: that took too long."""
        while not self.receive():
            readable, _, _ = select.select([self.fd], [], [], max(0.0, self.deadline - time.monotonic()))
            if not readable:
                self.kill()
                raise OomguardError(
                    f"reading the policy took more than {DEADLINE_SECONDS:.0f} s",
                    hint="run `oomguard check` to see why",
                )


def _ending(status: int) -> str:
    if os.WIFSIGNALED(status):
        return f"was killed by {signal.Signals(os.WTERMSIG(status)).name}"
    return f"exited with {os.WEXITSTATUS(status)}"
