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
from typing import TYPE_CHECKING, Any

from oomguard.core.errors import OomguardError
from oomguard.core.serialize import Decoder
from oomguard.kernel.own import python_command

if TYPE_CHECKING:
    from oomguard.core.policy import Policy

DEADLINE_SECONDS = 120.0
"""A policy at its bounds takes a few seconds of a processor, and more than 20 are refused. On a host that
thrashes, or starts programs as fast as it can, it may wait a minute for them; this ends one that hangs."""

_CHUNK = 65536
_OUTPUT_LIMIT = 64 * 1024 * 1024


class PolicyRejectedError(OomguardError):
    """The files hold no valid policy; `message` has every fault, one a line."""

    exit_code = 78


class PolicyChild:
    """One reading of the policy in progress. `fd` is readable when there is more to receive."""

    def __init__(self, path: str, *, deadline: float) -> None:
        reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            os.set_blocking(writer, True)
            command = python_command("oomguard.policy", path)
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
        self._partial = b""
        self._size = 0
        self._header: dict[str, Any] | None = None
        self._decoder = Decoder()
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
            self._size += len(chunk)
            if self._size > _OUTPUT_LIMIT:
                self._error = "its answer is too long"
                os.kill(self.pid, signal.SIGKILL)
                return True
            *lines, self._partial = (self._partial + chunk).split(b"\n")
            self._take(lines)

    def _take(self, lines: list[bytes]) -> None:
        try:
            for line in lines:
                if self._header is None:
                    self._header = dict(json.loads(line))
                else:
                    self._decoder.feed(line)
        except (ValueError, TypeError, RecursionError) as error:
            self._error = str(error)

    def kill(self) -> None:
        """End a child that is not done."""
        os.kill(self.pid, signal.SIGKILL)
        self._reap()

    def finish(self) -> "Policy":
        """Return the policy of a child that is done, or raise why there is none."""
        status = self._reap()
        header = self._header or {}
        try:
            if header.get("ok") is False:
                raise PolicyRejectedError("\n".join(header["lines"]))
            if status == 0 and not self._error:
                return self._decoder.policy()._replace(warnings=len(header["warnings"]))
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


def read_policy(path: str, *, now: float) -> "Policy":
    """Read the policy and wait for it; `now` is monotonic time."""
    child = PolicyChild(path, deadline=now + DEADLINE_SECONDS)
    while not child.receive():
        readable, _, _ = select.select([child.fd], [], [], max(0.0, child.deadline - time.monotonic()))
        if not readable:
            child.kill()
            raise OomguardError(
                f"{path}: reading it took more than {DEADLINE_SECONDS:.0f} s",
                hint="run `oomguard check` to see why",
            )
    return child.finish()


def _ending(status: int) -> str:
    if os.WIFSIGNALED(status):
        return f"was killed by {signal.Signals(os.WTERMSIG(status)).name}"
    return f"exited with {os.WEXITSTATUS(status)}"
