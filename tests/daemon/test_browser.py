"""A real Chromium with its own sandbox, as on a desktop: its tabs go first, and it goes last.

All its processes have one name, the main process is the largest, and tabs are forked by a zygote: they run no
program, and make their command line up. The session starts it with a raised value.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from pages import ROOT, blocks
from running import needs_events, oom_score_adj, running, wait_until

CHROMIUM = shutil.which("chromium")
USER = 1000
SESSION = 200
"""What desktops start programs with."""

BY_NAME = "rules: [{name: chromium, oom_score_adj: {at_least: 300}}]\n"
PAGE = "<script>kept = new Uint8Array(40 << 20).fill(1); document.title = 'tab'</script>"

pytestmark = [
    pytest.mark.browser,
    needs_events,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (Debian: chromium)"),
    pytest.mark.skipif(os.geteuid() != 0, reason="running Chromium as another user takes root"),
]


class Browser:
    """A running Chromium, without a window."""

    def __init__(self, folder: Path) -> None:
        assert CHROMIUM is not None
        self.page = folder / "page.html"
        self.page.write_text(PAGE)
        os.chown(folder, USER, USER)
        options = [
            "--headless",
            "--no-first-run",
            "--remote-debugging-port=0",
            f"--user-data-dir={folder}/data",
        ]
        with (folder / "log").open("w") as log:
            self.process = subprocess.Popen(
                ["choom", "-n", str(SESSION), "--", CHROMIUM, *options, "about:blank"],
                user=USER, group=USER, extra_groups=[], start_new_session=True, cwd=folder,
                env={"HOME": str(folder), "PATH": os.environ["PATH"]}, stdout=log, stderr=log,
            )  # fmt: skip
        port = folder / "data/DevToolsActivePort"
        wait_until(lambda: port.exists() and "\n" in port.read_text(), f"Chromium\n{log.name}", seconds=60)
        self._port = port.read_text().split()[0]

    def open_tab(self) -> None:
        """Open a page in another tab."""
        address = f"http://127.0.0.1:{self._port}/json"
        urlopen(Request(f"{address}/new?file://{self.page}", method="PUT")).close()

    def pids(self, kind: str) -> list[int]:
        """Return the processes of a type: `renderer`, `zygote`, `gpu-process`, `utility`."""
        return [pid for pid, found in self.kinds().items() if found == kind]

    def kinds(self) -> dict[int, str]:
        """Return all its processes, by pid, and their types: "" for the main process."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if folder.stat().st_uid == USER and (folder / "comm").read_text() == "chromium\n":
                    command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                    found[int(folder.name)] = command.partition(" --type=")[2].partition(" ")[0]
            except FileNotFoundError:
                continue
        return found

    def end(self) -> None:
        """End all of it."""
        os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait()
        wait_until(lambda: not self.kinds(), "the end of Chromium")


@pytest.fixture
def browser() -> Iterator[Browser]:
    """Start Chromium with two tabs."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        started = Browser(Path(folder))
        try:
            started.open_tab()
            started.open_tab()
            yield started
        finally:
            started.end()


def order(browser: Browser, policy: str, folder: Path) -> list[str]:
    """Return the types of its processes in the order in which the kernel would kill them under a policy."""
    path = folder / "rank.yaml"
    path.write_text(policy)
    command = [sys.executable, "-m", "oomguard", "rank", "--policy", str(path), "--limit", "0", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    kinds = browser.kinds()
    own = [process for process in json.loads(done.stdout)["processes"] if process["pid"] in kinds]
    return [kinds[process["pid"]] for process in sorted(own, key=lambda one: one["policy"]["place"])]


def recipe() -> str:
    """Return the policy of the how-to."""
    return blocks((ROOT / "docs/howto/desktop.md").read_text(), "yaml")[0]


def test_tabs_go_first_and_the_browser_goes_last(browser: Browser, tmp_path: Path) -> None:
    """By the how-to's recipe, also tabs that are opened later; by name alone it is the other way round."""
    assert order(browser, BY_NAME, tmp_path)[0] == ""
    with running(tmp_path, "resync_interval: 3600\n" + recipe()):
        before = set(browser.pids("renderer"))
        browser.open_tab()
        wait_until(lambda: set(browser.pids("renderer")) - before != set(), "another tab")
        tabs = browser.pids("renderer")
        wait_until(lambda: all(oom_score_adj(pid) == 500 for pid in tabs), "the value of all tabs")
        assert [oom_score_adj(pid) for pid in browser.pids("")] == [0]
        assert {oom_score_adj(pid) for pid in browser.pids("gpu-process")} == {200}
        ranked = order(browser, recipe(), tmp_path)
    tabs_first = ranked[: len(tabs)]
    assert tabs_first == ["renderer"] * len(tabs)
    assert {"gpu-process", "utility"} <= set(ranked[len(tabs) : ranked.index("")])
    assert not {"renderer", "gpu-process", "utility"} & set(ranked[ranked.index("") :])
