"""Mounts that a test makes over the files of a tree."""

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
