"""Pages of HTML in a real Chromium: what its policy lets run, sorting, and a phone."""

import html
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from test_incident_page import PAGES, page_of

import incident

CHROMIUM = shutil.which("chromium")
_POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy".*?>')

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (Debian: chromium)"),
]


def shown(page: str, folder: Path) -> str:
    """Return a page as it is after its scripts ran."""
    assert CHROMIUM is not None
    path = folder / "page.html"
    path.write_text(page)
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    command = [
        CHROMIUM,
        "--headless",
        "--hide-scrollbars",  # as on a phone, where they take no room
        *sandbox,
        f"--user-data-dir={folder}/data",
        "--dump-dom",
        f"file://{path}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return done.stdout


def test_the_page_may_run_its_own_script_and_no_other(tmp_path: Path) -> None:
    """Even one that got into it."""
    evil = "<script>document.title = 'evil'</script><img src=x onerror=\"document.title = 'evil'\">"
    dom = shown(page_of().replace("</main>", f"{evil}</main>"), tmp_path)
    assert "evil'" in dom
    assert "<title>chrome[1234] was killed" in dom
    assert dom.count("<button type=") == 7


def test_a_click_sorts_by_a_column(tmp_path: Path) -> None:
    """Numbers as numbers: by memory, then with the largest first."""
    click = "const memory = document.querySelectorAll('thead button')[4]; memory.click();"
    names = {}
    for clicks in (1, 2):
        page = _POLICY.sub("", page_of()).replace("</body>", f"<script>{click * 1}</script></body>")
        page = page.replace(click, click + "memory.click();" * (clicks - 1))
        table = shown(page, tmp_path).split('class="sortable"')[1]
        names[clicks] = re.findall(r'<th scope="row"[^>]*><bdi>(.*?)</bdi>', table)
    assert names[1][0] == "sshd"
    assert names[2][:3] == ["chrome", "code", "postgres"]
    assert names[1] == names[2][::-1]


@pytest.mark.parametrize("width", [390, 1000], ids=["phone", "desktop"])
@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_no_table_is_wider_than_the_page(page: str, width: int, tmp_path: Path) -> None:
    """Under a policy, it has the most columns. A phone shows those that matter most."""
    tables = "[...frames[0].document.querySelectorAll('.scroll')]"
    measure = f"document.title = Math.max(...{tables}.map(one => one.scrollWidth - one.clientWidth))"
    frame = f'<iframe width={width} height=800 srcdoc="{html.escape(_POLICY.sub("", page))}"></iframe>'
    dom = shown(f"<!DOCTYPE html><title></title>{frame}<script>onload = () => {measure}</script>", tmp_path)
    assert "<title>0</title>" in dom


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_a_phone_scrolls_up_and_down_only(page: str, tmp_path: Path) -> None:
    """Wide tables scroll by themselves."""
    frame = f'<iframe width=390 height=800 srcdoc="{html.escape(_POLICY.sub("", page))}"></iframe>'
    measure = "onload = () => document.title = frames[0].document.documentElement.scrollWidth"
    dom = shown(f"<!DOCTYPE html><title></title>{frame}<script>{measure}</script>", tmp_path)
    [width] = re.findall(r"<title>(\d+)</title>", dom)
    assert int(width) <= 390


def test_the_incident_is_one_that_the_kernel_would_decide_so() -> None:
    """What the pictures show is true."""
    finding = incident.told().finding
    assert (finding.why, finding.report.victim) == ("highest", finding.report.kills[0])
