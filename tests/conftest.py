"""Fixtures that every layer uses."""

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]  # it ships no types

from fakeproc import FakeProc
from oomguard.core.process import Identity
from oomguard.kernel.procfs import Procfs
from oomguard.reconcile.state_folder import StateFolder, open_state_folder
from soak import MINUTES, Soak

# How long an example takes depends on what else the machine does: tests that bound time count processor time.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

# Policies that others may write are refused, and the tests write many.
os.umask(0o022)

ASKS = {"soak": "soak", "vm": "vm|smoke|soak", "browser": "browser"}
"""By mark, the marks that ask for it."""

ONE_BY_ONE = {"daemon", "exporter", "fleet", "kernel", "packaging"}
"""The folders whose tests share the host: daemons, cgroups, clocks, installed programs."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of soaks."""
    group = parser.getgroup("soak", "everything at once, for a while (-m soak)")
    group.addoption("--soak-minutes", type=float, default=MINUTES, help="how long (default: %(default)s)")
    group.addoption("--soak-seed", type=int, help="what decides the faults (default: any, and printed)")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what takes minutes or much to install where no mark asks for it."""
    for mark, asks in ASKS.items():
        if re.search(rf"(?<!not )\b({asks})\b", config.option.markexpr):
            continue
        left_out = [item for item in items if item.get_closest_marker(mark)]
        if left_out:
            config.hook.pytest_deselected(items=left_out)
            items[:] = [item for item in items if item not in left_out]


class Schedule(LoadScopeScheduling):  # type: ignore[misc]  # for the same reason
    """Gives each process a file at a time, and one of them all files whose tests share the host."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        return "the host" if ONE_BY_ONE & set(path.split("/")) else path


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Schedule:
    """Distribute the tests in this way, whatever --dist says."""
    return Schedule(config, log)


@pytest.fixture
def soak(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> Soak:
    """Return what the command line says of soaks."""

    def say(line: str) -> None:
        with capsys.disabled():
            print(line, flush=True)

    option = request.config.getoption
    return Soak(minutes=option("--soak-minutes"), seed=option("--soak-seed"), say=say)


@pytest.fixture
def sleeper() -> Iterator[Identity]:
    """Start a process whose value may be raised, and end it."""
    with subprocess.Popen(["sleep", "60"]) as process:
        procfs = Procfs()
        identity = procfs.identity(process.pid)
        procfs.close()
        assert identity is not None
        yield identity
        process.kill()


@pytest.fixture
def stdin(tmp_path: Path) -> Iterator[Callable[[bytes], None]]:
    """Return what has standard input contain something."""
    before = os.dup(0)

    def contain(content: bytes) -> None:
        path = tmp_path / "stdin"
        path.write_bytes(content)
        fd = os.open(path, os.O_RDONLY)
        os.dup2(fd, 0)
        os.close(fd)

    yield contain
    os.dup2(before, 0)
    os.close(before)


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
