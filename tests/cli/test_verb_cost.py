"""What a verb costs, in files read and modules loaded: figures of any machine."""

import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from fakeproc import FakeProc
from oomguard.core.host import Host
from oomguard.core.process import Identity, Process
from oomguard.daemon.loop import Loop
from oomguard.daemon.reload import Reloader
from oomguard.reconcile.policy_cache import PolicyCache
from oomguard.report.status_file import encode_status
from statuses import IDLE

PROCESSES = 50
FILES = ("comm", "stat", "status", "oom_score_adj", "oom_score", "cgroup", "cmdline", "uid_map")
HEAVY = ("argparse", "pydantic", "yaml", "rich", "prometheus_client", "subprocess", "logging", "asyncio")

_OPENED = """\
import sys
opened = []
sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
from oomguard.__main__ import main
main()
print(*opened, sep="\\n", file=sys.stderr)
"""
_LOADED = """\
import sys
from oomguard.__main__ import main
try:
    main()
except SystemExit:
    pass
print(*sys.modules, file=sys.stderr)
"""


def heavy(modules: list[str]) -> set[str]:
    """Return which of the HEAVY ones were loaded, and not by rich, which needs `logging` before 14.3.4."""
    found = {name for name in HEAVY if name in modules}
    return found - {"logging"} if "rich" in found else found


def run(code: str, *arguments: str) -> list[str]:
    """Run a verb in an interpreter of its own, and return the words that the code prints about it."""
    command = [sys.executable, "-P", "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False).stderr.split()


@pytest.fixture
def host(tmp_path: Path) -> list[str]:
    """Return the options for a host where a rule matches half of the processes."""
    proc = FakeProc(tmp_path / "proc")
    proc.meminfo()
    for pid in range(100, 100 + PROCESSES):
        name = b"matched" if pid % 2 else b"other"
        proc.process(Process(Identity(pid, pid), name, uid=4242))
        proc.hold(pid, rss_pages=100, score=1)
    policy = tmp_path / "policy.yaml"
    policy.write_text("rules: [{name: matched, oom_score_adj: 300}]\n")
    policy.chmod(0o644)
    return ["--proc", str(proc.root), "--state-dir", str(tmp_path / "state"), "--policy", str(policy)]


@pytest.mark.parametrize(
    ("verb", "of_any", "of_matched"),
    [
        ("plan", {"comm"}, {"cgroup", "stat", "status", "oom_score_adj"}),
        ("rank", {"cgroup", "stat", "status", "oom_score_adj", "oom_score"}, set()),
    ],
)
def test_a_verb_reads_each_file_of_a_process_once(
    verb: str, of_any: set[str], of_matched: set[str], host: list[str]
) -> None:
    """Of those that a rule matches, `plan` reads more."""
    opened = Counter(path for path in run(_OPENED, verb, *host) if path in FILES)
    assert opened == dict.fromkeys(of_any, PROCESSES) | dict.fromkeys(of_matched, PROCESSES // 2)


@pytest.mark.parametrize("verb", ["plan", "rank", "explain other"])
@pytest.mark.parametrize("has_policy", [True, False])
def test_a_verb_asks_once_what_the_daemon_does(verb: str, has_policy: bool, host: list[str]) -> None:
    """With the default policy, which may be another one than the daemon's; if it is missing, too."""
    policy = Path(host[5])
    default = policy if has_policy else policy.with_name("missing.yaml")
    state = Path(host[3])
    state.mkdir()
    used = IDLE.policy._replace(path="/srv/other.yaml")
    (state / "status.json").write_bytes(
        encode_status(IDLE._replace(pid=100, start_time_ticks=100, policy=used))
    )
    code = f"import oomguard.core.policy as policy\npolicy.DEFAULT_PATH = {str(default)!r}\n{_OPENED}"
    words = run(code, *verb.split(), *host[:4])
    assert words.count("status.json") == 1
    hint = "the daemon uses /srv/other.yaml: add --policy /srv/other.yaml"
    assert (verb == "rank" and not has_policy) or hint in " ".join(words)


@pytest.mark.parametrize(
    ("verb", "loaded"),
    [
        ("--version", "argparse"),
        ("check", "argparse pydantic yaml"),
        ("plan", "argparse pydantic yaml rich"),
        ("plan --json", "argparse pydantic yaml"),
        ("rank", "argparse pydantic yaml rich"),
        ("rank --json", "argparse pydantic yaml"),
        ("explain other", "argparse pydantic yaml rich"),
        ("status", "argparse pydantic yaml rich"),
        ("restore", "argparse"),
        ("postmortem /dev/null", "argparse rich subprocess"),
        ("schema", "argparse pydantic"),
    ],
)
def test_a_verb_loads_only_what_it_needs(verb: str, loaded: str, host: list[str]) -> None:
    """Importing pydantic and PyYAML takes most of the time of a verb on an ordinary host."""
    takes_host = verb.split()[0] in ("check", "plan", "rank", "explain", "status")
    options = host if takes_host else host[:4] if verb == "restore" else []
    modules = run(_LOADED, *verb.split(), *options)
    assert heavy(modules) == set(loaded.split())


def test_beside_a_daemon_no_verb_waits_for_pydantic(host: list[str]) -> None:
    """They take the policy as it compiled it."""
    state, policy = host[3], host[5]
    time.sleep(0.12)  # a file that has just changed may change again
    cache, drop = PolicyCache(state), lambda *_: None
    reloader = Reloader(policy, Loop(), adopt=drop, reject=drop, limited=drop, cache=cache, observe=Host)
    reloader.first()
    reloader.close()
    for verb in ("plan", "rank", "explain other"):
        modules = run(_LOADED, *verb.split(), *host)
        assert heavy(modules) == {"argparse", "rich"}
