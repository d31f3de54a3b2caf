"""The short-lived process in which the daemon reads its policy: `python -m oomguard.policy PATH [HOST]`.

HOST are the facts of the host (`core.host.Host`) as a JSON object, which its caller observes.

The daemon stays small because only this process imports pydantic and PyYAML. It stays safe because this
process has resource limits and drops its privileges before it parses. On standard output:

- `{"ok": true, "users_are_local": ...}` and the lines of `core.serialize.encode`, exit 0; or
- `{"ok": false, "lines": [...]}`, each error in one line for a log, exit 78.

Any other failure is exit 1 and one line on standard error.
"""

import contextlib
import ctypes
import gc
import json
import os
import resource
import struct
import sys
from collections.abc import Iterator

from oomguard.core.host import Host
from oomguard.core.serialize import encode
from oomguard.policy.fault import PolicyError
from oomguard.policy.load import parse
from oomguard.policy.source import read_sources
from oomguard.policy.users import Users

_NOBODY = 65534
_CAPABILITY_VERSION_3 = 0x20080522
_LIMITS = (
    (resource.RLIMIT_AS, 512 * 1024 * 1024),  # 15,000 rules take 75 MiB, 79,000 take 210
    (resource.RLIMIT_CPU, 20),  # seconds; 15,000 rules take one
    (resource.RLIMIT_NOFILE, 64),  # a policy file and its folder, and what user lookups open
    (resource.RLIMIT_CORE, 0),
)


def main(arguments: list[str]) -> int:
    """Print the compiled policy, or its errors."""
    if len(arguments) not in (1, 2):
        print("usage: python -m oomguard.policy PATH [HOST]", file=sys.stderr)
        return 2
    gc.disable()  # the process ends before a collection pays off
    try:
        _limit_resources()
        _give_up_immunity()
        sources = read_sources(arguments[0])
        host = Host(**json.loads(arguments[1])) if arguments[1:] else None
        _drop_privileges()  # import nothing from here on: nobody may be unable to read it
        users = Users()
        try:
            loaded = parse(sources, host=host, users=users)
        except PolicyError as error:
            lines = [fault.one_line for fault in error.faults if fault.severity == "error"]
            _write([json.dumps({"ok": False, "lines": lines})])
            return error.exit_code
        _write([json.dumps({"ok": True, "users_are_local": users.are_local})])
        _write(encode(loaded.policy._replace(path=arguments[0], warnings=len(loaded.warnings))))
    except Exception as error:  # noqa: BLE001  # the daemon can use one line, not a traceback
        print(f"reading the policy failed: {type(error).__name__}: {error}", file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or the rest of the output fails again at exit
        return 1
    return 0


def _limit_resources() -> None:
    for limit, wanted in _LIMITS:
        with contextlib.suppress(OSError):  # a sandbox may not allow it
            _, hard = resource.getrlimit(limit)
            value = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
            resource.setrlimit(limit, (value, value))


def _give_up_immunity() -> None:
    """Set oom_score_adj to 0: only the daemon itself is exempt from the OOM killer."""
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("0\n")


def _drop_privileges() -> None:
    """Become nobody without capabilities, where that is allowed.

    In the shipped unit, which lacks CAP_SETUID, it stays root, and only loses its capabilities.
    """
    if os.geteuid() != 0:
        return
    with contextlib.suppress(OSError):
        os.setgroups([])
    with contextlib.suppress(OSError):
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
    with contextlib.suppress(OSError):
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    ctypes.CDLL(None).capset(header, bytes(24))  # effective, permitted and inheritable: none
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))  # no new ones, unless it could not become nobody


def _write(lines: list[str] | Iterator[str]) -> None:
    sys.stdout.writelines(f"{line}\n" for line in lines)
    sys.stdout.flush()
