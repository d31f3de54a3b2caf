"""Imports point down only: the layers of docs/internals/architecture.md, enforced."""

import ast
import sys
from pathlib import Path

import pytest

import oomguard

SOURCE = Path(oomguard.__file__).parent

MAY_IMPORT = {
    "core": set(),
    "oom": {"core"},
    "policy": {"core"},
    "kernel": {"core", "oom"},
    "report": {"core", "oom"},
    "reconcile": {"core", "kernel"},
    "daemon": {"core", "oom", "kernel", "reconcile", "report"},
    "exporter": {"core", "kernel", "report"},
    "foreign": {"core"},
    "propose": {"core", "foreign", "policy", "kernel"},
    "diagnose": {"core", "oom", "foreign", "policy", "kernel", "report", "reconcile"},
    "cli": {"core", "oom", "policy", "kernel", "report", "reconcile", "exporter", "propose", "diagnose"},
}
"""By folder. The daemon has the policy read by a child, so it imports nothing of `policy`."""

PURE = {"os", "time", "logging", "pathlib", "socket", "subprocess"}
"""What `core` and `oom` must not import, though the standard library has it."""

HEAVY = {"pydantic", "yaml", "rich", "logging", "asyncio", "dataclasses", "inspect", "subprocess", "pathlib"}
HEAVY |= {"http", "prometheus_client"}
"""What must never be in the daemon's memory."""

MODULES = sorted(SOURCE.rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Return every module that `path` imports, under TYPE_CHECKING too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


@pytest.mark.parametrize("path", MODULES, ids=[str(path.relative_to(SOURCE)) for path in MODULES])
def test_a_module_imports_only_layers_below_its_own(path: Path) -> None:
    """A layer may use those MAY_IMPORT gives it, and itself."""
    layer = path.relative_to(SOURCE).parts[0]
    if layer not in MAY_IMPORT:
        return  # __init__ and __main__ stand above all layers
    used = {name.split(".")[1] for name in imports(path) if name.startswith("oomguard.")}
    assert used & MAY_IMPORT.keys() <= MAY_IMPORT[layer] | {layer}


@pytest.mark.parametrize(
    "path",
    [path for path in MODULES if path.relative_to(SOURCE).parts[0] in ("core", "oom")],
    ids=lambda path: f"{path.parent.name}/{path.name}",
)
def test_the_core_is_pure(path: Path) -> None:
    """It imports the standard library only, and nothing of it that touches the machine."""
    outside = {name.split(".")[0] for name in imports(path)} - {"oomguard"}
    assert outside <= sys.stdlib_module_names
    assert not outside & PURE


def test_every_folder_is_a_layer() -> None:
    """A new folder must say what it may import."""
    folders = {path.parent.name for path in SOURCE.glob("*/__init__.py")}
    assert folders == MAY_IMPORT.keys()


def test_the_daemon_loads_nothing_heavy() -> None:
    """Importing the service brings in none of the modules that a small process cannot afford."""
    import subprocess

    code = "import sys, oomguard.daemon.__main__; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-S", "-c", code],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert not HEAVY & set(loaded.stdout.split())
