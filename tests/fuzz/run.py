"""Fuzz what reads bytes that others choose, for as long as one likes.

    pip install atheris
    python tests/fuzz/run.py [--seconds 180] [TARGET ...]

Each target of `targets.py` gets a process of its own, in which atheris mutates inputs and keeps those that
reach new lines of oomguard. Prints, by target, how many were tried; an input that broke a law is kept in
the current folder, and the exit code is 1.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

TESTS = Path(__file__).parent.parent
_DONE = re.compile(r"Done (\d+) (?:runs|in)")
_INPUT_SECONDS = 20
"""One input may take so long under instrumentation; a search that never ends does not go on for ever."""
_LENGTHS = {"policy": 2048, "cost": 2048, "wire": 2048, "stat": 256, "text": 256}
_MEMORY_MIB = 1024


def main() -> int:
    """Run the targets that are named, or all."""
    sys.path.insert(0, str(TESTS))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=int, default=180, help="for each target (default: %(default)s)")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("target", nargs="*")
    options = parser.parse_args()
    if options.one:
        return fuzz(options.target[0], options.seconds)
    from fuzz.targets import TARGETS

    for name in options.target:
        if name not in TARGETS:
            parser.error(f"no target {name}; there are {', '.join(TARGETS)}")
    codes = [measure(name, options.seconds) for name in options.target or TARGETS]
    return 1 if any(codes) else 0


def measure(name: str, seconds: int) -> int:
    """Fuzz one target in a process of its own and print how many inputs it was given."""
    command = [sys.executable, __file__, "--one", "--seconds", str(seconds), name]
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    said = done.stdout.decode("utf-8", "backslashreplace")
    tried = _DONE.search(said)
    if done.returncode or tried is None:
        print(f"{name}: FAILED\n{said[-4000:]}", flush=True)
        return 1
    print(f"{name}: {int(tried[1]):,} inputs in {seconds} s", flush=True)
    return 0


def fuzz(name: str, seconds: int) -> int:
    """Fuzz one target in this process, which libFuzzer ends."""
    import atheris  # type: ignore[import-not-found,import-untyped,unused-ignore]  # only who fuzzes has it

    with atheris.instrument_imports(include=["oomguard", "cpu"]):
        from fuzz.targets import TARGETS, seeds
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(seeds(name)):
            (Path(corpus) / str(number)).write_bytes(seed)
        arguments = [
            sys.argv[0],
            f"-max_total_time={seconds}",
            f"-max_len={_LENGTHS.get(name, 512)}",
            f"-rss_limit_mb={_MEMORY_MIB}",
            f"-timeout={_INPUT_SECONDS}",
            f"-artifact_prefix=fuzz-{name}-",
            corpus,
        ]
        atheris.Setup(arguments, TARGETS[name])
        atheris.Fuzz()
    return 0


if __name__ == "__main__":
    os.nice(10)
    sys.exit(main())
