"""The hooks for pre-commit, run by pre-commit in a repository of policies."""

import os
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import pytest
import yaml

from oomguard import __version__
from pages import ROOT, blocks

SCRIPTS = sysconfig.get_path("scripts")
HOOKS: list[dict[str, Any]] = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())

POLICY = 'rules: [{unit: "batch-*.service", oom_score_adj: 800}]\n'
CASES = """\
policy: ../etc/oomguard.yaml
cases:
  - case: batch jobs go first
    processes: [{name: a, unit: batch-1.service, expect: 800}]
"""


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder, with our programs, and a home and caches of its own."""
    environment = {
        "PATH": f"{SCRIPTS}:{os.environ['PATH']}",
        "HOME": str(folder.parent / "home"),
        "PRE_COMMIT_HOME": str(folder.parent / "cache"),
        "GIT_CONFIG_NOSYSTEM": "1",
        "PRE_COMMIT_COLOR": "never",
    }
    environment |= {key: value for key, value in os.environ.items() if key.startswith("PIP_")}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Return a git repository with a policy, a case file, and the hooks as programs of this environment."""
    folder = tmp_path / "policies"
    for path, text in {"etc/oomguard.yaml": POLICY, "tests/batch.yaml": CASES, "README": "x\n"}.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    hooks = [hook | {"language": "system"} for hook in HOOKS]
    config = {"repos": [{"repo": "local", "hooks": hooks}]}
    (folder / ".pre-commit-config.yaml").write_text(yaml.safe_dump(config))
    for command in (["init", "-q"], ["add", "--all"]):
        assert run(folder, "git", *command).returncode == 0
    return folder


def hooks_of(repository: Path, *arguments: str) -> tuple[int, str]:
    """Run the hooks on all files; return how they ended, and what they printed."""
    assert run(repository, "git", "add", "--all").returncode == 0
    done = run(repository, "pre-commit", *(arguments or ("run", "--all-files")))
    return done.returncode, done.stdout + done.stderr


def test_a_good_policy_passes_check_and_test(repository: Path) -> None:
    """Both hooks run, offline."""
    code, printed = hooks_of(repository)
    assert code == 0, printed
    assert printed.count("Passed") == 2


def test_a_fault_in_a_policy_stops_a_commit(repository: Path) -> None:
    """With what `check` says."""
    (repository / "etc/oomguard.yaml").write_text("rules: [{unti: a.service, oom_score_adj: 800}]\n")
    code, printed = hooks_of(repository)
    assert code == 1
    assert "etc/oomguard.yaml:1:10: unknown key unti" in printed
    assert printed.count("Failed") == 2


def test_a_policy_that_no_longer_does_what_its_cases_expect_stops_a_commit(repository: Path) -> None:
    """Though only the policy changed."""
    assert (
        run(repository, "git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "a").returncode
        == 0
    )
    (repository / "etc/oomguard.yaml").write_text(POLICY.replace("800", "700"))
    code, printed = hooks_of(repository, "run")
    assert code == 1
    assert (
        "tests/batch.yaml:4: batch jobs go first: a[100]\n    - oom_score_adj: 800\n    + oom_score_adj: 700"
        in printed
    )
    assert (printed.count("Passed"), printed.count("Failed")) == (1, 1)


def test_the_page_names_hooks_and_a_tag_that_there_are() -> None:
    """`.ci/release` wants the tag of a release to be v and its version."""
    (shown,) = [yaml.safe_load(text) for text in blocks((ROOT / "docs/fleet.md").read_text(), "text")]
    (repo,) = shown["repos"]
    assert repo["rev"] == f"v{__version__}"
    assert {hook["id"] for hook in repo["hooks"]} <= {hook["id"] for hook in HOOKS}


@pytest.mark.packaging
def test_the_hooks_of_this_repository_are_installed_and_run(repository: Path) -> None:
    """As users have them: pre-commit installs oomguard into an environment, which takes a network."""
    for hook in HOOKS:
        code, printed = hooks_of(repository, "try-repo", str(ROOT), hook["id"], "--all-files")
        assert code == 0, printed
        assert "Passed" in printed
