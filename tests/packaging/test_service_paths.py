"""The units, as far as they can be read without systemd; tests/vm has them run."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UNITS = sorted((ROOT / "systemd").glob("*.service"))
EVERYWHERE = {"/usr/lib", "/usr/bin/python3", "/run", "/run/oomguard", "/dev/shm", "/proc", "/proc/sys/vm"}
EVERYWHERE |= {"/proc/sys/kernel/panic", "/proc/sys/kernel/panic_on_oops"}
"""What each host with the package has, or systemd makes."""


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_no_missing_path_keeps_a_service_from_its_start(unit: Path) -> None:
    """Without `-`, a start fails with status 226 if the path is missing, such as kill without procps."""
    settings = re.findall(r"^(?:\w+Paths|BindPaths)=(.+)$", unit.read_text(), re.MULTILINE)
    paths = {path for setting in settings for path in setting.split() if not path.startswith("-")}
    assert paths - {"/"} <= EVERYWHERE
