"""Mounts that a test makes over the files of a tree."""

import errno
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

OWN_FOLDERS = """
mount -t tmpfs tmpfs /run
for folder in usr etc var; do
    mkdir -p "/run/$folder/upper" "/run/$folder/work"
    own=/run/$folder
    mount -t overlay -o "lowerdir=/$folder,upperdir=$own/upper,workdir=$own/work" overlay "/$folder"
done
"""
"""For a shell in a mount namespace of its own: /usr, /etc, /var and /run to change, which end with it."""


@contextmanager
def read_only(path: Path) -> Iterator[None]:
    """Let nobody write a file, not even root."""
    if subprocess.run(["mount", "--bind", path, path], check=False, capture_output=True).returncode != 0:
        pytest.skip("nothing can be mounted here")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", path], check=True)
        yield
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)


@contextmanager
def disk(place: Path, *, kib: int) -> Iterator[Path]:
    """Have a disk of that size mounted there."""
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={kib}k,mode=755", "tmpfs", str(place)]
    mounted = subprocess.run(command, check=False, capture_output=True)
    if mounted.returncode != 0:
        pytest.skip(f"nothing can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(place: Path) -> None:
    """Use up a disk, but for what is left in the pages of files that are there."""
    with (place / "filler").open("wb", buffering=0) as filler:
        try:
            while True:
                filler.write(b"x" * 4096)
        except OSError as error:
            assert error.errno == errno.ENOSPC
