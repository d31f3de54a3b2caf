"""The page at `/`: what a person sees in a browser, and with curl."""

import os
import re
import shutil
import socket
import struct
import subprocess
from collections.abc import Iterator
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from scraping import Exporter, exporting
from test_page import STATUS

from oomguard import __version__
from oomguard.exporter.page import as_html, as_text, describe
from oomguard.report.status_file import (
    UNREADABLE,
    Complaint,
    ContendedValue,
    RuleStatus,
    StatusFile,
    SysctlStatus,
    encode_status,
)
from running import Program, running, wait_for_value, wait_until

HOSTILE = "</td><script>alert(1)</script><img src=x onerror=alert(2)> &lt; \"'"
COMPLAINT = Complaint("", -900, "refused", "", "", "", 1)


class Reader(HTMLParser):
    """What a browser would make of a page: its elements, their attributes, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: set[str] = set()
        self.attributes: set[tuple[str, str | None]] = set()
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take note of an element."""
        self.elements.add(tag)
        self.attributes |= set(attrs)

    def handle_data(self, data: str) -> None:
        """Take note of text."""
        self.texts.append(data)


def read(html: bytes) -> Reader:
    """Return what a page holds."""
    reader = Reader()
    reader.feed(html.decode())
    return reader


def status(**changes: Any) -> StatusFile:
    """Return a status with these changes."""
    return STATUS._replace(contended=(), **changes)


@pytest.fixture
def lonely(tmp_path: Path) -> Iterator[Exporter]:
    """Run an exporter without a daemon."""
    with exporting(tmp_path, tmp_path / "state") as exporter:
        yield exporter


def test_names_are_text_and_not_markup() -> None:
    """Whatever a rule, a file or a reason is called, the page has the same elements and shows the name."""
    complaint = COMPLAINT._replace(subject="vm.swappiness", reason=HOSTILE, by=HOSTILE)
    hostile = STATUS._replace(
        version=HOSTILE,
        policy=STATUS.policy._replace(files=(HOSTILE,), errors=(HOSTILE,)),
        rules=(RuleStatus(0, HOSTILE, "", HOSTILE, 1),),
        limits=(HOSTILE,),
        contended=(ContendedValue(HOSTILE),),
        complaints=(complaint,),
    )
    ordinary, found = (read(as_html(describe(one, "", now=9.0, rule_limit=9))) for one in (status(), hostile))
    assert found.elements == ordinary.elements
    assert found.attributes == ordinary.attributes
    assert "".join(found.texts).count(HOSTILE) == 9
    assert HOSTILE in "".join(read(as_html(describe(None, HOSTILE, now=9.0, rule_limit=9))).texts)


def test_the_page_loads_nothing() -> None:
    """Its only address is that of the metrics, on the same host."""
    html = as_html(describe(status(), "", now=9.0, rule_limit=9))
    found = read(html)
    addresses = {value for name, value in found.attributes if name in ("href", "src", "action")}
    assert addresses == {"/metrics"}
    assert not found.elements & {"script", "link", "img", "iframe", "object", "form"}
    assert b"//" not in html
    assert b"@import" not in html
    assert len(html) < 4000


def test_both_forms_say_the_same() -> None:
    """In the same order."""
    page = describe(status(kills=(), limits=("no proc connector",)), "", now=9.0, rule_limit=9)
    text = as_text(page).decode()
    in_html = "".join(read(as_html(page)).texts)
    for heading, rows in page.tables:
        for wanted in (heading, *(cell for row in rows for cell in row)):
            assert wanted in text
            assert wanted in in_html
    assert text.startswith("oomguard is up\n\nDaemon\n  Version      1\n")
    assert "\nProblems\n  limited: no proc connector" in text


def test_problems_name_no_process() -> None:
    """With `hidepid=`, a reader may not know what runs; those of a rule are one line."""
    complaints = tuple(
        COMPLAINT._replace(subject=f"nginx[{pid}]", reason=f"uid {pid} could give any program", by="r")
        for pid in (2001, 2002)
    )
    limits = tuple(f"{UNREADABLE}: {who}: it took too long" for who in ("pid 2003", "user-2004.slice"))
    found = status(complaints=complaints, limits=(*limits, "no proc connector"))
    text = as_text(describe(found, "", now=9.0, rule_limit=9)).decode()
    assert text.count("some processes cannot be read; see oomguard status\n") == 1
    assert "limited: no proc connector" in text
    assert text.count("refused: oom_score_adj → -900 (r); see oomguard status") == 1
    assert "nginx" not in text
    assert "200" not in text


def test_sysctls_that_are_refused_together_are_one_problem() -> None:
    """With the reason once."""
    names = ("vm.overcommit_memory", "vm.overcommit_ratio")
    complaints = tuple(
        COMPLAINT._replace(subject=name, wanted=2, reason="CommitLimit would be 1 KiB", by=f"p:{line}")
        for line, name in enumerate(names, 1)
    )
    found = status(complaints=complaints, sysctls=tuple(SysctlStatus(name, 2, 2, "p:1") for name in names))
    text = as_text(describe(found, "", now=9.0, rule_limit=9)).decode()
    assert (
        "refused: vm.overcommit_memory → 2, vm.overcommit_ratio → 2: CommitLimit would be 1 KiB (p:1, p:2)\n"
    ) in text
    assert text.count("CommitLimit") == 1


def test_rules_beyond_the_limit_are_not_listed() -> None:
    """As in the metrics, but counted."""
    text = as_text(describe(status(), "", now=9.0, rule_limit=1)).decode()
    assert text.count("name=a ") == 1
    assert "name=b" not in text
    assert re.search(r"^  2 more rules +see oomguard status$", text, re.MULTILINE)
    text = as_text(describe(status(), "", now=9.0, rule_limit=0)).decode()
    assert "none" not in text.partition("Rules that match")[2]


def test_it_shows_a_running_daemon_and_why_one_is_not(tmp_path: Path) -> None:
    """With the policy on disk that is not valid, line by line, and the same reason as in the log."""
    program = Program(tmp_path, "oomguard-home")
    policy = "rules: [{name: oomguard-home, oom_score_adj: 300}]\nresync_interval: 3600\n"
    try:
        pid = program.start()
        with running(tmp_path, policy) as daemon, exporting(tmp_path, daemon.state) as exporter:
            wait_for_value(pid, 300)
            wait_until(lambda: "1 process\n" in exporter.get("/"), "the rule's process")
            page = exporter.get("/", Accept="text/html,*/*;q=0.8")
            for wanted in ("oomguard is up", __version__, str(daemon.policy), "name=oomguard-home"):
                assert wanted in page
            daemon.policy.write_text("vm: nonsense\n")
            wait_until(lambda: f"{daemon.policy}:1:" in exporter.get("/"), "the rejected policy")
            daemon.stop()
            page = exporter.get("/")
            assert page.startswith("oomguard is down\n")
            assert page.splitlines()[4].split("  ")[-1] in exporter.log.read_text()
    finally:
        program.end()


def test_a_status_that_was_cut_short_is_a_reason(lonely: Exporter, tmp_path: Path) -> None:
    """Not an error of the server."""
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "status.json").write_bytes(encode_status(STATUS)[:100])
    assert "no valid JSON" in lonely.get("/")


@pytest.mark.parametrize("path", ["/", "/metrics"])
def test_a_check_of_a_page_gets_its_head_alone(path: str, lonely: Exporter) -> None:
    """As a load balancer asks; with the length of the page."""
    host, _, port = lonely.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port))) as client:
        client.sendall(f"HEAD {path} HTTP/1.0\r\n\r\n".encode())
        head, _, body = b"".join(iter(partial(client.recv, 4096), b"")).partition(b"\r\n\r\n")
    assert (b" 200 OK\r\n" in head, body) == (True, b"")
    [length] = re.findall(rb"Content-Length: (\d+)", head)
    is_fixed = path == "/"  # the others' figures change
    assert int(length) == pytest.approx(len(lonely.get(path).encode()), rel=0 if is_fixed else 0.1, abs=0)


def test_browsers_are_told_to_run_and_keep_nothing(lonely: Exporter) -> None:
    """By headers, whatever gets into the page."""
    host, _, port = lonely.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port))) as client:
        client.sendall(b"GET / HTTP/1.0\r\nAccept: text/html\r\n\r\n")
        head = b"".join(iter(partial(client.recv, 4096), b"")).partition(b"\r\n\r\n")[0].decode()
    assert "Content-Security-Policy: default-src 'none'" in head
    assert "Cache-Control: no-store" in head
    assert "Content-Type: text/html; charset=utf-8" in head


@pytest.mark.browser
@pytest.mark.skipif(not shutil.which("chromium"), reason="needs chromium")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run it as another user")
def test_a_real_browser_draws_it(lonely: Exporter, tmp_path: Path) -> None:
    """Chromium with its own sandbox, as an unprivileged user: not an empty page."""
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, 65534, 65534)
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(folder.stat().st_mode | 0o011)
    picture = home / "page.png"
    command = ["chromium", "--headless", "--disable-gpu", f"--user-data-dir={home}", "--window-size=800,600"]
    done = subprocess.run(
        [*command, f"--screenshot={picture}", lonely.url],
        user=65534,
        group=65534,
        extra_groups=[],
        env={"HOME": str(home), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert picture.exists(), done.stderr
    assert struct.unpack(">II", picture.read_bytes()[16:24]) == (800, 600)
    assert picture.stat().st_size > 4000
