"""Programs of `attacks/`: compiled on the host, because the guests have no compiler."""

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

from .guest import Guest
from .image import cache_folder

SOURCES = Path(__file__).with_name("attacks")
COMPILE = ("gcc", "-O2", "-s", "-static", "-pthread", "-Wall", "-Wextra", "-Werror")


def attack(vm: Guest, name: str) -> str:
    """Put the program of `attacks/NAME.c` into the guest; return its path there.

    The test is skipped where there is no gcc.
    """
    path = f"/usr/local/bin/{name}"
    vm.put(path, compiled(name).read_bytes(), mode=0o755)
    return path


def compiled(name: str) -> Path:
    """Return the program of `attacks/NAME.c`, linked statically; it is compiled once for each source."""
    if shutil.which(COMPILE[0]) is None:
        pytest.skip(f"attacks/{name}.c needs {COMPILE[0]}: apt-get install gcc libc6-dev")
    source = SOURCES / f"{name}.c"
    digest = hashlib.sha256(b"\0".join([*map(str.encode, COMPILE), source.read_bytes()])).hexdigest()[:12]
    program = cache_folder() / "attacks" / f"{name}-{digest}"
    if not program.exists():
        program.parent.mkdir(parents=True, exist_ok=True)
        partial = program.with_suffix(".partial")
        subprocess.run([*COMPILE, "-o", partial, source], check=True)
        partial.rename(program)
    return program
