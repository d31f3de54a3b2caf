"""What the documentation shows for a host with systemd, run on one: page by page, as it stands there."""

from pathlib import Path

import pytest

from pages import PAGES, Step, is_as_shown, name, steps

from .service import DROP_INS, Service

PAGES_FOR_VM = [page for page in PAGES if any(step.where == "vm" for step in steps(page))]

SHELL = "cd /root && export COLUMNS=110 LC_ALL=C.UTF-8\n"


@pytest.mark.parametrize("page", PAGES_FOR_VM, ids=name)
def test_what_a_page_says_is_so(installed: Service, page: Path) -> None:
    """Files it shows are written where it says; the service takes them by itself."""
    try:
        for step in steps(page):
            if step.path:
                write(installed, step)
            elif step.where == "vm":
                run(installed, step)
    finally:
        if installed.vm.is_alive:  # a page may start it
            installed.vm.run("systemctl disable --quiet --now oomguard-exporter", check=False)


def write(service: Service, step: Step) -> None:
    """Write a policy as the reader does, and wait until it is in force."""
    before = service.status()["policy"]["digest"]
    service.vm.put(step.path, step.text)
    if not step.path.startswith(DROP_INS):
        return
    service.vm.wait_until(
        f"! grep -q {before} /run/oomguard/status.json", describe=f"{step.place} to be in force"
    )


def run(service: Service, step: Step) -> None:
    """Run a block, and hold what came of it against the page."""
    done = service.vm.run(["sh", "-ec", f"exec 2>&1\n{SHELL}{step.text}"], check=False, timeout_seconds=600)
    told = f"{step.place}\n{step.text}\nended with {done.code}, and printed\n{done.stdout}"
    assert done.code == step.status, told
    if step.output is not None:
        assert is_as_shown(done.stdout, step.output), f"{told}\ninstead of\n{step.output}"
