"""Pages of HTML: whole in one file, safe with any name, and readable for everybody."""

import base64
import hashlib
import re
import tempfile
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

import incident
import oom_formats as formats
from oomguard.oom.backtest import Backtester
from oomguard.oom.log_reader import OomLog
from oomguard.oom.postmortem import examine
from oomguard.policy.load import load
from oomguard.report.chart import growth_chart
from oomguard.report.postmortem import Incident, headline
from oomguard.report.postmortem_page import RAW_LIMIT, TASKS, postmortem_page
from oomguard.report.recording_page import recording_page

HOSTILE = ("<script>alert(1)", '"><img src=x>', "</title><b>", "{{ 7 * 7 }}", "' onload='x", "&lt;b&gt;")


def page_of(name: str = "chrome") -> str:
    """Return the page of an incident, with that name for the process that leaks."""
    return postmortem_page([incident.told(name=name)], limit=TASKS, where="the journal", notes=["A note."])


class Tags(HTMLParser):
    """The elements of a page, with their attributes and text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        """Note text."""
        self.text += data

    def of(self, *tags: str) -> list[dict[str, str | None]]:
        """Return the attributes of all elements of a kind."""
        return [attributes for tag, attributes in self.found if tag in tags]


def replayed_page() -> str:
    """Return the page of the incident under a policy with long rules."""
    told = incident.told()
    text = "rules:\n  - {name: report-gen, oom_score_adj: 800}\n"
    text += "  - {name: postgres, user: 113, oom_score_adj: -900}\n"
    text += "  - {name: systemd-journal, unit: systemd-journald.service, oom_score_adj: -250}\n"
    with tempfile.TemporaryDirectory() as folder:
        policy = Path(folder) / "new.yaml"
        policy.write_text(text)
        backtest = Backtester(load(str(policy)).policy).replay(told.finding)
    told = told._replace(backtest=backtest, policy="new.yaml")
    return postmortem_page([told], limit=TASKS, where="the journal", notes=[])


REPLAYED = replayed_page()
PAGES = {"postmortem": page_of(), "replayed": REPLAYED, "history": recording_page(incident.samples())}


def test_what_the_host_has_is_no_part_of_a_memory_node() -> None:
    """A cpuset can run out of memory while the rest of the host has plenty."""
    for text, is_host in (
        (formats.CPUSET_5_10, False),
        ("\n".join(formats.host_report(formats.KERNELS[-1])), True),
    ):
        (report,) = OomLog().read([text])
        page = postmortem_page([Incident(1, examine(report))], limit=TASKS, where="the log", notes=[])
        assert ("<bdi>Free</bdi>" in page) == is_host


@pytest.mark.parametrize("name", HOSTILE)
def test_names_never_become_markup(name: str) -> None:
    """The elements are those of any other name, and the name is there as text."""
    ordinary, hostile = Tags(page_of()), Tags(page_of(name))
    assert [tag for tag, _ in hostile.found] == [tag for tag, _ in ordinary.found]
    assert [list(attributes) for _, attributes in hostile.found] == [
        list(attributes) for _, attributes in ordinary.found
    ]
    assert f"{name}[1234] was killed" in hostile.text
    samples = Tags(recording_page(incident.samples(name)))
    assert len(samples.of("script")) == 1
    assert f"{name}[1234]" in samples.text


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_nothing_runs_but_what_the_page_names_and_nothing_is_fetched(page: str) -> None:
    """By hashes, which browsers compare."""
    tags = Tags(page)
    [policy] = [
        str(one["content"]) for one in tags.of("meta") if one.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    for tag in ("style", "script"):
        [text] = re.findall(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert not tags.of("a", "link", "img", "iframe", "object", "base", "form")
    assert not [one for _, one in tags.found if {"src", "href", "style"} & one.keys()]
    assert not [name for _, one in tags.found for name in one if name.startswith("on")]
    assert re.findall(r"\w+://|url\(|@import", page) == []


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_a_screen_reader_finds_its_way(page: str) -> None:
    """Headings in order, tables with captions and headers, pictures with labels."""
    tags = Tags(page)
    levels = [int(tag[1]) for tag, _ in tags.found if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(below - above <= 1 for above, below in pairwise(levels))
    assert len(tags.of("table")) == len(tags.of("caption")) > 0
    assert all(one.get("scope") in ("col", "row") for one in tags.of("th"))
    assert all(one.get("aria-label") or one.get("aria-hidden") == "true" for one in tags.of("svg"))
    assert tags.of("html") == [{"lang": "en"}]
    assert tags.of("title")


def luminance(color: str) -> float:
    """Return the relative luminance of a color, as WCAG computes it."""
    digits = color if len(color) == 6 else "".join(2 * digit for digit in color)
    parts = (int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4))
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_text_stands_out_by_day_and_by_night() -> None:
    """At least 4.5 to 1 for text, and 3 to 1 for lines and bars."""
    palettes = [dict(re.findall(r"--(\w+): #(\w+)", part)) for part in page_of().split("@media", 2)[:2]]
    assert palettes[0].keys() == palettes[1].keys()
    for palette in palettes:
        for name in palette.keys() - {"ground", "raised", "edge"}:
            lights = sorted(luminance(palette[one]) for one in (name, "ground"))
            assert (lights[1] + 0.05) / (lights[0] + 0.05) >= (4.5 if name != "bar" else 3), name


def test_a_page_stays_small_enough_to_be_sent() -> None:
    """However many processes and kills there were; the victims are always in it."""
    told = incident.told()
    task = told.finding.report.tasks[-1]
    small = tuple(task._replace(pid=10_000 + number, comm="<" * 15) for number in range(25_000))
    report = told.finding.report._replace(tasks=(*small, *told.finding.report.tasks))
    page = postmortem_page([told._replace(finding=examine(report))], limit=TASKS, where="", notes=[])
    assert len(page) < 500_000
    assert "chrome[1234]" in page
    assert "more; --tasks 0 shows all." in page


def test_holders_beyond_the_table_are_counted() -> None:
    """One process, two processes."""
    told = incident.told()
    tasks = told.finding.report.tasks
    for more, words in ((3, "1 more process"), (4, "2 more processes")):
        extra = tuple(tasks[-1]._replace(pid=10_000 + number) for number in range(more))
        report = told.finding.report._replace(tasks=(*tasks, *extra))
        page = postmortem_page([told._replace(finding=examine(report))], limit=TASKS, where="", notes=[])
        assert re.findall(r"\d+ more process(?:es)?", page) == [words]


def test_parts_of_more_than_everything_are_explained() -> None:
    """Where they show; and all processes are added up."""
    told = incident.told()
    assert "Parts are of the 6.3 GiB that ran out. 8 processes together: 5.7 GiB." in page_of()
    tasks = tuple(one._replace(rss=one.rss * 3) for one in told.finding.report.tasks)
    finding = examine(told.finding.report._replace(tasks=tasks))
    page = postmortem_page([told._replace(finding=finding)], limit=TASKS, where="", notes=[])
    assert "17.2 GiB, which is more, because shared memory counts in each process that uses it." in page


def test_under_a_policy_the_table_has_the_columns_of_rank() -> None:
    """The place and the value, now and new."""
    tags = Tags(REPLAYED)
    assert "The kill order" in tags.text
    text = " ".join(tags.text.split())
    assert "NowNewNamePIDUIDMemoryoom_score_adjScoreRule" in text.replace(" ", "")
    [row] = [row for row in REPLAYED.split("<tr") if "report-gen</bdi>" in row and "200→" in row]
    cells = re.findall(r"<bdi>(.*?)</bdi>", row)
    assert (cells[:3], cells[6], cells[-1]) == (["4", "1", "report-gen"], "200→800", "name=report-gen")
    assert re.search(r"<th scope=row[^>]*><bdi>report-gen", row)


def test_a_cgroup_is_not_taken_for_the_host() -> None:
    """The least memory is the host's; if only a cgroup was short, it is named."""
    samples = incident.samples()
    host = [one._replace(left=one.left._replace(available_kib=8 << 20)) for one in samples[:5]]
    cgroup = [one._replace(cgroup="/app", left=one.left._replace(available_kib=900)) for one in samples[5:8]]
    assert "At the lowest, 8.0 GiB were available, at " in recording_page(host + cgroup)
    assert "At the lowest, 900 KiB were available in /app, at " in recording_page(cgroup)


def test_several_reports_are_one_page_each_below_its_own_headline() -> None:
    """And a log without one says so."""
    tags = Tags(postmortem_page([incident.told()] * 3, limit=TASKS, where="", notes=[]))
    assert (len(tags.of("h1")), len(tags.of("h2"))) == (1, 3)
    assert "3 reports of the OOM killer" in tags.text
    assert "No report of the OOM killer in the log." in postmortem_page(
        [], limit=9, where="the log", notes=[]
    )
    assert "Nothing was recorded in that time." in recording_page([])


@pytest.mark.parametrize("kernel", formats.KERNELS, ids=str)
def test_any_kernels_report_is_a_page(kernel: formats.Kernel) -> None:
    """With a table, and without anything but the kill."""
    lines = formats.host_report(kernel)
    for log in (lines, lines[-1:]):
        reports = OomLog(raw_limit=RAW_LIMIT).read(["\n".join([*log, ""])])
        told = [Incident(1, examine(report)) for report in reports]
        text = Tags(postmortem_page(told, limit=TASKS, where="the log", notes=[])).text
        assert headline(told[0].finding) in text
        assert "The kernel's own lines" in text
        assert log[-1] in text


def test_lines_of_a_log_are_text_that_moves_nothing() -> None:
    """And those of a storm end where the page would become too large."""
    evil = "Killed process 7 (</pre><b>\x1b[31m\u202e) total-vm:0kB, anon-rss:0kB"
    told = incident.told()
    report = told.finding.report._replace(raw=f"{evil}\n" + "x" * RAW_LIMIT)
    report = report._replace(raw=report.raw[:RAW_LIMIT])
    tags = Tags(postmortem_page([told._replace(finding=examine(report))], limit=TASKS, where="", notes=[]))
    assert tags.of("b") == []
    assert "(</pre><b>\\x1b[31m\\u202e) total-vm:0kB, anon-rss:0kB\n…" in tags.text


def test_a_line_is_broken_where_a_process_was_in_no_sample() -> None:
    """And a single sample is a dot. A clock that was set back draws nothing twice as wide."""
    samples = incident.samples()[:4]
    holder = samples[0].holders[0]
    samples[1] = samples[1]._replace(holders=samples[1].holders[1:])
    [line] = growth_chart(samples, [holder]).lines
    assert line.path.count("M") == 2
    assert growth_chart(samples[:1], [holder]).lines[0].path == "M0.0 2.0L0.0 2.0"
    assert "chrome[1234]" in recording_page([*samples, samples[0]])
