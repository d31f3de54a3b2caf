"""A real PostgreSQL: its postmaster is kept, its backends go their own way, and nobody fights.

Every process of it is called `postgres`. It starts with a raised value, which the rule lowers: anybody may
do that.
"""

import os
import pwd
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from running import Daemon, oom_score_adj, running, wait_for_value, wait_until

PROGRAMS = max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)

pytestmark = [
    pytest.mark.skipif(PROGRAMS is None, reason="PostgreSQL is not installed (Debian: postgresql)"),
    pytest.mark.skipif(os.geteuid() != 0, reason="running PostgreSQL as its own user takes root"),
]

POLICY = """\
resync_interval: 3600
rules:
  - name: postgres
    user: postgres
    scope: main
    oom_score_adj: 300
"""
OWN = 500
"""What the cluster is started with."""


class Cluster:
    """A database cluster of its own, which only listens on a socket in its folder."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        os.chown(folder, pwd.getpwnam("postgres").pw_uid, -1)
        self._run("initdb", "--auth=trust", "--no-sync", f"--pgdata={folder}/data")

    def start(self, **environment: str) -> int:
        """Start the postmaster and return its pid."""
        options = f"-c listen_addresses= -c unix_socket_directories={self.folder} -c fsync=off"
        log = f"--log={self.folder}/log"
        self._run(
            "pg_ctl",
            "start",
            "--wait",
            log,
            f"--pgdata={self.folder}/data",
            f"--options={options}",
            **environment,
        )
        return int((self.folder / "data/postmaster.pid").read_text().split()[0])

    def stop(self) -> None:
        """Stop it."""
        self._run("pg_ctl", "stop", "--mode=immediate", f"--pgdata={self.folder}/data")

    @contextmanager
    def session(self) -> Iterator[int]:
        """Open a session that does nothing; give the pid of its backend."""
        assert PROGRAMS is not None
        psql: list[str | Path] = [
            PROGRAMS / "psql",
            f"--host={self.folder}",
            "--no-psqlrc",
            "--quiet",
            "--tuples-only",
            "postgres",
        ]
        with subprocess.Popen(
            psql, user="postgres", stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/"
        ) as client:
            assert client.stdin is not None
            assert client.stdout is not None
            client.stdin.write("select pg_backend_pid();\n")
            client.stdin.flush()
            yield int(client.stdout.readline())
            client.stdin.close()

    def _run(self, program: str, *arguments: str, **environment: str) -> None:
        assert PROGRAMS is not None
        subprocess.run(
            ["choom", "-n", str(OWN), "--", PROGRAMS / program, *arguments],
            user="postgres",
            env=os.environ | environment,
            cwd="/",
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Make a cluster."""
    with tempfile.TemporaryDirectory(prefix="oomg-postgres-") as folder:
        yield Cluster(folder)


@contextmanager
def postmaster(cluster: Cluster, **environment: str) -> Iterator[int]:
    """Run the cluster; give the postmaster's pid."""
    pid = cluster.start(**environment)
    try:
        yield pid
    finally:
        cluster.stop()


def fights(daemon: Daemon) -> bool:
    """Tell whether any value was written more than once."""
    return "drift" in daemon.log or "contended" in daemon.log


def test_backends_are_not_held_with_their_postmaster(tmp_path: Path, cluster: Cluster) -> None:
    """They inherit what it has and set nothing themselves, unless told; the rule is for the topmost."""
    with running(tmp_path, POLICY) as daemon, postmaster(cluster) as pid:
        wait_for_value(pid, 300)
        with cluster.session() as backend:
            wait_for_value(backend, OWN)
            assert oom_score_adj(pid) == 300
        helpers = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        for helper in helpers:
            with suppress(FileNotFoundError, ProcessLookupError):  # one that ended, as autovacuum's do
                wait_for_value(helper, OWN)
        assert any(Path(f"/proc/{helper}").exists() for helper in helpers)
        assert not fights(daemon)


def test_backends_that_value_themselves_are_left_alone(tmp_path: Path, cluster: Cluster) -> None:
    """As Debian's and the project's own packages have it: PG_OOM_ADJUST_FILE and _VALUE."""
    own = {"PG_OOM_ADJUST_FILE": "/proc/self/oom_score_adj", "PG_OOM_ADJUST_VALUE": "150"}
    with running(tmp_path, POLICY) as daemon, postmaster(cluster, **own) as pid:
        wait_for_value(pid, 300)
        with cluster.session() as backend:
            wait_until(lambda: oom_score_adj(backend) != 300, "a value of its own")
            with cluster.session() as later:
                wait_until(lambda: oom_score_adj(later) == 150, "its own value")
            assert oom_score_adj(backend) == 150
        assert oom_score_adj(pid) == 300
        assert not fights(daemon)
