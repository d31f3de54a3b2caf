"""A day with oomguard, from its installation to its removal: docs/first-day.md, as it stands there."""

import re

import pytest

from pages import ROOT, is_as_shown, steps, with_outputs

from .guest import Guest

PAGE = ROOT / "docs" / "first-day.md"
SHELL = "exec 2>&1; cd /root; export COLUMNS=100 LC_ALL=C.UTF-8\n"

VARYING = (
    (r"(?m)^.*(?:throttled at its CPU limit|pauses at its limit|no longer pauses).*\n", ""),  # if emulated
    (r"\b(\d{4}-)?\d\d-\d\d (?=\d\d:\d\d)", ""),
    (r"\b\d\d:\d\d(:\d\d)?\b", "TIME"),
    (r"\b\d+(\.\d+)? ?([KMGT]|[KMG]iB)\b", "SIZE"),
    (r"\b\d+(\.\d+)? ?%", "SHARE"),
    (r"\[\d+\]|\(pid \d+\)", "[PID]"),
    (r"\b\d+(?=  \w+-[\w-]+  )", "PID"),  # before a name of a table
    (r"\b\d+ (seconds?|minutes?)\b", "SPAN"),
    (r"\b\d+ processes\b", "N processes"),
    (r"[▁▂▃▄▅▆▇█─]+", ""),
    (r" +", " "),
)
"""What is another in each run: dates, times, sizes, shares, pids, ages; and how wide they make a table."""


def steady(text: str) -> str:
    """Return an output without what is another in each run."""
    for pattern, same in VARYING:
        text = re.sub(pattern, same, text)
    return text


@pytest.mark.guest(is_plain=True, cpus=1)
def test_a_day_goes_as_the_page_shows(fresh_vm: Guest, pytestconfig: pytest.Config) -> None:
    """All is tried, whatever differs; --vm-write-walk writes into the page what was printed instead."""
    printed, differs = {}, []
    for step in steps(PAGE):
        if step.path:
            fresh_vm.put(step.path, step.text)
            continue
        done = fresh_vm.run(["sh", "-ec", SHELL + step.text], check=False, timeout_seconds=1800)
        told = f"{step.place}\n{step.text}\nended with {done.code}, and printed\n{done.stdout}"
        assert done.code == step.status, told
        if not is_as_shown(steady(done.stdout), steady(step.output or "")):
            printed[step.line] = done.stdout
            differs.append(told)
    if pytestconfig.getoption("vm_write_walk"):
        PAGE.write_text(with_outputs(PAGE, printed))
    assert not differs, "\n\n".join(differs)
