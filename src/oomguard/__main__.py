"""Entry point of `oomguard` and `python -m oomguard`: the one place that turns errors into exit codes."""

import os
import sys

from oomguard.core.errors import OomguardError


def main() -> int:
    """Run one verb and return its exit code: 0 done, 1 failed, 2 usage, 3 would change, 78 bad policy."""
    from oomguard.cli.main import run_verb

    try:
        try:
            return run_verb(sys.argv[1:])
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()  # here, where a reader that went away can still be met in silence
    except OomguardError as error:
        print(error.for_stderr, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our output went away, as `head` does; there is nobody left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        print(f"oomguard: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
