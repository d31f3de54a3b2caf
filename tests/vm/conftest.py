"""Fixtures of the virtual machine suite: `vm` (a shared guest), `fresh_vm` (one's own) and `installed`.

Every test below this folder carries the mark `vm` and is left out unless `-m` names it. A new scenario is one
file `test_*.py` whose tests take one of these fixtures.
"""

import os
import re
import shutil
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from . import payload
from .guest import EmulatorError, Guest, missing_emulator
from .image import CONTAINERS, SUITES, ImageError, build, cache_folder
from .service import Service

CONSOLE_TAIL_LINES = 25
SUITES_VARIABLE = "OOMGUARD_VM_SUITES"
ARTEFACTS_VARIABLE = "OOMGUARD_VM_ARTEFACTS"

SECONDS = {
    "test_foresight": 1040, "test_sysctls": 400, "test_attacks_inheritance": 350, "test_faults_load": 330,
    "test_rank": 310, "test_walk": 310, "test_containers": 280, "test_trust": 260, "test_debian": 240,
    "test_attacks_cpu": 220, "test_faults_kernel": 210, "test_docs": 200, "test_release": 200,
    "test_hosts": 190, "test_fleet": 190, "test_attacks_events": 190, "test_floors": 170,
    "test_faults_state": 150, "test_oom": 140, "test_faults": 120, "test_install": 110, "test_attacks": 100,
    "test_children": 100, "test_uninstall": 90, "test_policy": 90, "test_unit": 80, "test_kills": 70,
    "test_attacks_reading": 60,
}  # fmt: skip
"""How long the slowest files take in an emulated guest, beside another one, for `--vm-shard`."""

OTHER_SECONDS = 30

GUESTS_OF_TEST = pytest.StashKey[list[tuple[Guest, int]]]()
"""The guests a test works in, each with the size of its journal when the test began."""


# The command line


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the suite's options; pytest takes them only if the command names this folder."""
    group = parser.getgroup("vm", "oomguard in virtual machines")
    group.addoption("--vm-suite", help=f"Debian releases, of {','.join(SUITES)} (default {SUITES[0]})")
    group.addoption("--vm-shard", metavar="I/N", help="only this share of the files, from 1/N to N/N")
    group.addoption("--vm-write-walk", action="store_true", help="write docs/first-day.md")
    group.addoption("--vm-artefacts", help="folder for what failed scenarios leave (default: in the cache)")


def pytest_configure(config: pytest.Config) -> None:
    """Register the suite's own marks."""
    config.addinivalue_line("markers", "smoke: the shortest look at everything (run with -m smoke)")
    config.addinivalue_line(
        "markers", "guest(suites=…, is_plain=…, memory_mib=…, …): what the guest of `fresh_vm` is like"
    )


def chosen_suites(config: pytest.Config) -> list[str]:
    """Read the suites from the options or the environment."""
    text = config.getoption("--vm-suite", default=None) or os.environ.get(SUITES_VARIABLE) or SUITES[0]
    suites = [suite.strip() for suite in str(text).split(",")]
    if unknown := sorted(set(suites) - set(SUITES)):
        raise pytest.UsageError(f"--vm-suite: {', '.join(unknown)} unknown, choose from {', '.join(SUITES)}")
    return suites


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the files of other shards: the longest first, each goes to the shard with the least to do."""
    text = config.getoption("--vm-shard", default=None)
    if text is None:
        return
    found = re.fullmatch(r"([1-9])/([1-9])", text)
    if found is None or found[1] > found[2]:
        raise pytest.UsageError(f"--vm-shard: must be I/N with I from 1 to N, up to 9, got {text!r}")
    seconds = {item.path.stem: SECONDS.get(item.path.stem, OTHER_SECONDS) for item in items}
    shards: list[list[str]] = [[] for _ in range(int(found[2]))]
    for file in sorted(seconds, key=lambda file: (-seconds[file], file)):
        min(shards, key=lambda shard: sum(map(seconds.__getitem__, shard))).append(file)
    mine = shards[int(found[1]) - 1]
    config.hook.pytest_deselected(items=[item for item in items if item.path.stem not in mine])
    items[:] = [item for item in items if item.path.stem in mine]


def artefacts_folder(config: pytest.Config) -> Path:
    """Where failed scenarios leave console, journal and kernel log."""
    text = config.getoption("--vm-artefacts", default=None) or os.environ.get(ARTEFACTS_VARIABLE)
    return Path(text) if text else cache_folder() / "artefacts"


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark every test of this folder, so that no scenario has to."""
    item.add_marker(pytest.mark.vm)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run every scenario once a suite; all of one suite before the next, so that one guest runs at a time."""
    if "suite" in metafunc.fixturenames:
        metafunc.parametrize("suite", chosen_suites(metafunc.config), scope="session")


# Guests


class Machines:
    """Boots guests of one suite, and keeps one of them running for all who can share it."""

    def __init__(self, suite: str, folder: Path, script: str = payload.INSTALL) -> None:
        """Prepare the suite's disk, and its image: by a script, unless that is empty."""
        self.suite = suite
        self._plain = build(suite)
        self._folder = folder
        self._payload = folder / "payload.img"
        payload.make(suite.removesuffix(CONTAINERS), self._payload)
        self._image = self._plain
        if script:
            self._image = payload.changed(self._plain, self._payload, folder, script)
        self._shared: Guest | None = None
        self._boots = 0

    def boot(self, *, is_plain: bool = False, **options: Any) -> Guest:
        """Boot another guest, to be closed by the caller; the options are those of `Guest`."""
        for _ in range(2):
            with suppress(EmulatorError):
                return self._boot(is_plain=is_plain, **options)
        return self._boot(is_plain=is_plain, **options)

    def _boot(self, *, is_plain: bool, **options: Any) -> Guest:
        self._boots += 1
        folder = self._folder / f"boot-{self._boots}"
        folder.mkdir()
        guest = Guest(self._plain if is_plain else self._image, self._payload, folder, **options)
        try:
            guest.wait_for_boot()
        except BaseException:
            guest.close()
            raise
        return guest

    def shared(self) -> Guest:
        """Return the guest of all scenarios that do no lasting harm; replace a dead one."""
        if self._shared is None or not self._shared.is_alive:
            self.close()
            self._shared = self.boot()
        return self._shared

    def close(self) -> None:
        """End the shared guest."""
        if self._shared is not None:
            self._shared.close()
            self._shared = None


@contextmanager
def _machines(
    suite: str, factory: pytest.TempPathFactory, script: str = payload.INSTALL
) -> Iterator[Machines]:
    """Have guests of one suite; skip where this host can not run any."""
    if reason := missing_emulator():
        pytest.skip(reason)
    folder = factory.mktemp(suite)
    try:
        made = Machines(suite, folder, script)
    except ImageError as error:
        pytest.skip(str(error))
    try:
        yield made
    finally:
        made.close()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def machines(
    suite: str, tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> Iterator[Machines]:
    """All guests of one suite. The smoke runs the installer in the guest, the others before it boots."""
    is_smoke = pytestconfig.getoption("markexpr") == "smoke"
    with _machines(suite, tmp_path_factory, "" if is_smoke else payload.INSTALL) as made:
        yield made


@pytest.fixture(scope="module")
def container_host(suite: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Oomguard installed in a guest that has a container engine, and its service stopped."""
    with (
        _machines(f"{suite}{CONTAINERS}", tmp_path_factory) as made,
        made.boot(memory_mib=2048, cpus=1) as guest,
    ):
        service = Service(guest)
        service.ensure_installed()
        guest.run("systemctl disable --now oomguard; oomguard restore")
        yield service


@pytest.fixture(scope="module")
def release_host(suite: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Provide a guest with a release to install, and what its packages take from this Debian."""
    script = "" if suite == "bookworm" else payload.DEPENDENCIES
    with _machines(suite, tmp_path_factory, script) as made, made.boot(cpus=1) as guest:
        yield Service(guest)


def watch(request: pytest.FixtureRequest, guest: Guest) -> Guest:
    """Remember where the guest's journal stood, for the artefacts."""
    guests = request.node.stash.setdefault(GUESTS_OF_TEST, [])
    guests.append((guest, guest.journal_stream.stat().st_size))
    return guest


@pytest.fixture
def vm(machines: Machines, request: pytest.FixtureRequest) -> Guest:
    """Provide a booted guest, shared with the other scenarios: leave it as you found it."""
    return watch(request, machines.shared())


@pytest.fixture
def fresh_vm(machines: Machines, request: pytest.FixtureRequest) -> Iterator[Guest]:
    """Provide a guest of one's own, for scenarios that do not leave much of it.

    `@pytest.mark.guest(memory_mib=…, cpus=…, …)` says what it must be like, by what `Machines.boot`
    takes, and `suites` which have such a guest.
    """
    mark = request.node.get_closest_marker("guest")
    wanted = dict(mark.kwargs) if mark else {}
    if machines.suite not in wanted.pop("suites", SUITES):
        pytest.skip(f"not on {machines.suite}")
    with machines.boot(**wanted) as guest:
        yield watch(request, guest)


@pytest.fixture
def installed(vm: Guest) -> Iterator[Service]:
    """Oomguard in the shared guest, installed by its installer and running with the policy as shipped."""
    service = Service(vm)
    service.ensure_installed()
    cpu_ticks = service.cpu_ticks()
    yield service
    if vm.is_alive:
        service.reset(cpu_ticks)


# What a failure leaves


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep the guests' logs of a failed test and show the end of the console."""
    report = yield
    guests: list[tuple[Guest, int]] = item.stash.get(GUESTS_OF_TEST, [])
    if report.failed:
        for number, (guest, journal_start) in enumerate(guests, 1):
            folder = artefacts_folder(item.config) / re.sub(r"[^\w.-]+", "_", item.nodeid) / str(number)
            keep(guest, journal_start, folder)
            tail = guest.console.read_text(errors="backslashreplace").splitlines()[-CONSOLE_TAIL_LINES:]
            report.sections.append((f"guest {number}: console, all of it in {folder}", "\n".join(tail)))
    return report


def keep(guest: Guest, journal_start: int, folder: Path) -> None:
    """Copy console, emulator's output and the test's part of the journal."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(guest.console, folder / "console.log")
    shutil.copy(guest.folder / "qemu.log", folder / "qemu.log")
    with guest.journal_stream.open("rb") as journal, (folder / "journal.json").open("wb") as kept:
        journal.seek(journal_start)
        shutil.copyfileobj(journal, kept)
