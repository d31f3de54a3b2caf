"""Entry point of `oomguard` and `python -m oomguard`: the one place that turns errors into exit codes."""

import atexit
import contextlib
import errno
import gc
import os
import site
import sys


def main() -> int:
    """Run one verb and return its exit code: 0 done, 1 failed, 2 usage, 3 would change, 78 bad policy."""
    try:  # imported here, so that Ctrl-C meanwhile prints no traceback
        from oomguard.core.errors import OomguardError
        from oomguard.report import streams
    except KeyboardInterrupt:
        return 130
    streams.set_up()
    try:
        try:
            if sys.argv[1:] == ["run"] and _is_as_the_daemon():
                return _become_daemon()
            _collect_less()
            from oomguard.cli.main import run_verb

            return run_verb(sys.argv[1:])
        finally:
            sys.stdout.flush()  # here, where BrokenPipeError can still be handled
    except OomguardError as error:
        _complain(error.for_stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except MemoryError:
        _complain(
            "oomguard: not enough memory\n  free some; `oomguard restore` and `oomguard rank` need least"
        )
        return 1
    except BrokenPipeError:
        return 141  # the reader of the output went away, as `head` does
    except OSError as error:
        file = "" if error.filename is None else f": {error.filename!r}"
        if not file and error.errno == errno.ENOENT:
            file = ": the working folder\n  it was removed: change to another one"  # getcwd(3) names none
        if not file and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            file = ": standard output"  # all else that is written is named
        _complain(f"oomguard: {error.strerror or error}{file}")
        return 1
    finally:
        streams.abandon()


def _is_as_the_daemon() -> bool:
    """Whether this interpreter was started as `run` would start one for the daemon (`python_command`)."""
    return sys.flags.safe_path and not site.ENABLE_USER_SITE and os.geteuid() == 0


def _become_daemon() -> int:
    """Do what the unit asks for, without the parser and a second interpreter: half of a start."""
    from oomguard.core.policy import DEFAULT_PATH
    from oomguard.daemon.__main__ import run
    from oomguard.reconcile.state_folder import RUN_FOLDER

    return run(DEFAULT_PATH, RUN_FOLDER, "/proc")


def _collect_less() -> None:
    """Examine objects for cycles less often, and not at the end: that is a fifth of the time of a verb."""
    gc.set_threshold(10_000)
    atexit.register(gc.freeze)


def _complain(text: str) -> None:
    from oomguard.report import streams

    with contextlib.suppress(OSError):  # if stderr is closed, the exit code still reports the error
        streams.complain(text)


if __name__ == "__main__":
    sys.exit(main())
