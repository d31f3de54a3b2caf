"""The dashboard's JSON, held against Grafana's own types by the TypeScript compiler.

They know the keys and values of the dashboard, its variables and its panels, but not the queries, which
tests/exporter/test_alerts.py tries on a Prometheus. No Grafana has shown it.
"""

import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.packaging

ROOT = Path(__file__).parents[2]
DASHBOARD = (ROOT / "etc" / "grafana" / "oomguard.json").read_text()
TYPES = Path(__file__).with_name("dashboard")


@pytest.fixture(scope="module")
def compiler(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the compiler and the types, of the locked versions; npm keeps them in its cache."""
    if shutil.which("npm") is None:
        pytest.skip("npm is missing: apt-get install npm")
    folder = tmp_path_factory.mktemp("dashboard")
    for name in ("package.json", "package-lock.json"):
        shutil.copy(TYPES / name, folder)
    options = ("--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline")
    subprocess.run(["npm", "ci", "--silent", *options], cwd=folder, check=True)
    return folder


def faults(compiler: Path, dashboard: str) -> str:
    """Return what the compiler says against a dashboard."""
    (compiler / "dashboard.ts").write_text((TYPES / "types.ts").read_text() + dashboard)
    options = ("--noEmit", "--strict", "--skipLibCheck", "--module", "nodenext")
    done = subprocess.run(
        ["node_modules/.bin/tsc", *options, "dashboard.ts"],
        cwd=compiler,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 2), done
    return done.stdout


def test_the_dashboard_is_one_by_grafanas_types(compiler: Path) -> None:
    """Each key is known, each value is one of those allowed, and none that is required is missing."""
    assert not faults(compiler, DASHBOARD)


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ('"colorMode"', '"colourMode"', "'\"colourMode\"' does not exist"),
        ('"bars"', '"columns"', "'\"columns\"' is not assignable"),
        ('"showLegend": true', '"showLegend": 1', "'number' is not assignable to type 'boolean'"),
    ],
)
def test_a_mistake_in_the_dashboard_is_found(compiler: Path, right: str, wrong: str, said: str) -> None:
    """A misspelt key, a value that there is not, and one of another type."""
    assert right in DASHBOARD
    assert said in faults(compiler, DASHBOARD.replace(right, wrong, 1))
