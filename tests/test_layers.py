"""Imports point down only: the layers of docs/internals/architecture.md, enforced."""

import ast
import subprocess
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

LOADED = {
    *("array", "bisect", "builtins", "codecs", "collections", "contextlib", "copyreg", "ctypes", "encodings"),
    *("enum", "errno", "fcntl", "fnmatch", "functools", "gc", "genericpath", "inotify_simple", "io"),
    *(
        "itertools",
        "json",
        "keyword",
        "linecache",
        "marshal",
        "math",
        "operator",
        "os",
        "posix",
        "posixpath",
        "re",
    ),
    *("reprlib", "resource", "sdnotify", "select", "selectors", "shlex", "signal", "socket", "stat"),
    *("struct", "sys", "termios", "time", "types", "warnings", "zipimport", "zlib"),
    *("abc", "oomguard"),
}
"""What the daemon has in memory, the interpreter's own modules included. A small process cannot afford more:
`dataclasses`, `logging` and `subprocess` take 1 to 2 MiB each, pydantic 20. For `typing`: `core.typed`."""

OURS = 100
"""How many modules of oomguard that are: what only verbs need is not among them."""

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


def test_the_daemon_loads_what_it_needs_and_no_more() -> None:
    """Each module costs memory for as long as the host runs."""
    code = "import sys, oomguard.daemon.__main__; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-S", "-c", code],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert {name.partition(".")[0] for name in loaded if not name.startswith("_")} <= LOADED
    assert sum(name.split(".")[0] == "oomguard" for name in loaded) == OURS


def test_only_pages_of_html_load_the_template_engine() -> None:
    """No verb waits for it, and no other module makes markup."""
    importers = {path.name for path in MODULES if {"jinja2", "markupsafe"} & imports(path)}
    assert importers == {"html_page.py"}
    code = "import sys; from oomguard.cli.main import run_verb; run_verb(sys.argv[1:]); print(*sys.modules)"
    report = str(Path(__file__).parent / "reports" / "6.12-host.txt")
    for last, is_loaded in (([], False), (["--json"], False), (["--html=-"], True)):
        command = [sys.executable, "-c", code, "postmortem", report, *last]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert ("jinja2" in done.stdout.splitlines()[-1].split()) == is_loaded


def test_what_the_daemon_repeats_makes_no_tuple_of_an_iterator() -> None:
    """CPython begins one of unknown length with ten places, and cuts it: the freed ones are never reused.

    It keeps 2,000 of each length up to 20 (Objects/tupleobject.c; abstract.c: PySequence_Tuple), which came
    to 0.4 MiB. `tuple([...])` and `(*items,)` know their length.
    """
    found = []
    for path in MODULES:
        if path.relative_to(SOURCE).parts[0] not in ("core", "kernel", "reconcile", "daemon"):
            continue
        functions = [
            node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)
        ]
        found += [
            f"{path.name}:{call.lineno}"
            for function in functions
            for call in ast.walk(function)
            if isinstance(call, ast.Call)
            and isinstance(call.func, ast.Name)
            and call.func.id == "tuple"
            and any(_is_iterator(argument) for argument in call.args)
        ]
    assert found == []


def _is_iterator(node: ast.expr) -> bool:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return node.func.id in ("map", "filter", "zip", "islice", "reversed", "iter")
    return isinstance(node, ast.GeneratorExp)
