"""The lock files: complete, consistent, and nobody's but the project's."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = PROJECT["project"]["optional-dependencies"]
RANGES = {
    "requirements.txt": PROJECT["project"]["dependencies"],
    "requirements-build.txt": PROJECT["dependency-groups"]["build"],
    "requirements-dev.txt": PROJECT["project"]["dependencies"] + EXTRAS["dev"],
    "requirements-fleet.txt": PROJECT["project"]["dependencies"] + EXTRAS["fleet"],
    "requirements-release.txt": PROJECT["dependency-groups"]["release"],
}
"""By lock file, what it is made of."""


def locked(name: str) -> dict[str, list[Requirement]]:
    """Return what a lock file pins, by name: one version, or one for each marker."""
    pins: dict[str, list[Requirement]] = {}
    for line in re.findall(r"^[a-z].*(?= \\$)", (ROOT / name).read_text(), re.MULTILINE):
        pin = Requirement(line)
        pins.setdefault(canonicalize_name(pin.name), []).append(pin)
    return pins


def version(pin: Requirement) -> str:
    """Return the one version that a pin allows."""
    (specifier,) = pin.specifier
    assert specifier.operator == "=="
    return specifier.version


@pytest.mark.parametrize("name", RANGES)
def test_every_range_of_pyproject_has_its_pin(name: str) -> None:
    """If this fails, run `sh .ci/lock`."""
    pins = locked(name)
    for text in RANGES[name]:
        wanted = Requirement(text)
        found = pins[canonicalize_name(wanted.name)]
        assert found
        assert all(wanted.specifier.contains(version(pin)) for pin in found), text


def test_the_backend_that_is_locked_is_the_one_that_builds() -> None:
    """It is installed beforehand, so pip does not look at what the build asks for."""
    pins = locked("requirements-build.txt")
    for text in PROJECT["build-system"]["requires"]:
        wanted = Requirement(text)
        assert all(wanted.specifier.contains(version(pin)) for pin in pins[wanted.name])


@pytest.mark.parametrize("name", RANGES)
def test_every_line_is_a_pin_with_its_hashes(name: str) -> None:
    """No index, no address, no option: whoever installs says where packages come from."""
    text = (ROOT / name).read_text()
    pins = re.findall(
        r"^[a-z0-9-]+==\S+(?: ; [^\\\n]*)? \\\n(?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+",
        text,
        re.MULTILINE,
    )
    assert len(pins) == sum(len(found) for found in locked(name).values())
    assert "".join(pins) == re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)
    assert "://" not in text


@pytest.mark.parametrize("name", RANGES)
def test_what_two_lock_files_pin_is_one_version(name: str) -> None:
    """They are installed on top of each other."""
    for other in RANGES:
        for package in locked(name).keys() & locked(other).keys():
            assert set(map(version, locked(name)[package])) == set(map(version, locked(other)[package]))


def test_what_oomguard_runs_with_is_the_same_for_every_python() -> None:
    """Because pip evaluates a marker for the Python that it runs with, and wheels.sh fetches for others."""
    assert not [pin for found in locked("requirements.txt").values() for pin in found if pin.marker]
