"""Fixtures that every layer uses."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from fakeproc import FakeProc
from oomguard.kernel.procfs import Procfs
from oomguard.reconcile.state import StateFolder, open_state_folder

# Policies that others may write are refused, and the tests write many.
os.umask(0o022)


@pytest.fixture
def proc(tmp_path: Path) -> FakeProc:
    """Return an empty tree that looks like /proc."""
    return FakeProc(tmp_path / "proc")


@pytest.fixture
def procfs(proc: FakeProc) -> Iterator[Procfs]:
    """Open that tree."""
    opened = proc.procfs()
    yield opened
    opened.close()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[StateFolder]:
    """Open a state folder."""
    opened = open_state_folder(str(tmp_path / "state"))
    yield opened
    opened.close()
