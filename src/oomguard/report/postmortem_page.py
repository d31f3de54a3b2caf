"""Reports of the OOM killer as a page of HTML, for a ticket."""

import json
from collections.abc import Iterator, Sequence

from oomguard.core.text import counted, kib, legible, printable
from oomguard.oom.backtest import Replayed
from oomguard.oom.postmortem import Finding, Place, share_of
from oomguard.report import postmortem
from oomguard.report.chart import LINES, growth_chart, left_chart
from oomguard.report.html_page import Article, Cell, Column, Page, Row, Section, Table, numbers, render
from oomguard.report.postmortem_before import grown, is_of_same, until_kill
from oomguard.report.postmortem_document import incident_json
from oomguard.report.recording_page import growth_table

TASKS = 200
"""Candidates in the table and in the JSON, unless another number is asked for."""
RAW_LIMIT = 100_000
"""Characters of the log that a report has in the page."""
_HOLDERS = 10
_JSON_LENGTH = 200_000


def postmortem_page(
    incidents: Sequence[postmortem.Incident], *, limit: int, where: str, notes: Sequence[str]
) -> str:
    """Return reports as HTML. `where` is the log that they are from."""
    if not incidents:
        article = Article(f"No report of the OOM killer in {where}.", is_calm=True)
        return render(Page(article.headline, [article], notes))
    title = f"{len(incidents)} reports of the OOM killer"
    if len(incidents) == 1:
        title = postmortem.headline(incidents[0].finding)
    return render(Page(title, [_article(one, limit) for one in incidents], notes))


def _article(incident: postmortem.Incident, limit: int) -> Article:
    finding, report = incident.finding, incident.finding.report
    said = [*postmortem.facts(incident._replace(origin=None)), *postmortem.paths(report)]
    sections = [Section("What happened", [fact for fact in said if fact.label != "Policy"])]
    if rows := _held(finding):
        columns = (Column("What"), numbers("Memory"), numbers("Part"), Column(""))
        held = Table("The largest, as the kernel counted them", columns, rows)
        sections.append(Section("What held memory", table=held, note=_together(finding)))
    if incident.before:
        sections.append(_before(incident))
    if report.tasks:
        sections.append(_candidates(incident, limit))
    origin = incident.origin
    policy = [] if origin is None else [postmortem.Fact("Value", postmortem.origin_of(origin))]
    if policy := [*policy, *(fact for fact in said if fact.label == "Policy")]:
        sections.append(Section("The policy's part", policy))
    document = json.dumps(json.loads(incident_json(incident, limit=limit)), indent=1, ensure_ascii=False)
    if len(document) > _JSON_LENGTH:
        document = ""  # a cgroup that was killed as a whole can have thousands of processes
    folded = [("The kernel's own lines", _lines(report.raw)), ("The same for programs, as JSON", document)]
    is_calm = not report.kills and report.other is None
    return Article(postmortem.headline(finding), postmortem.circumstances(report), sections, folded, is_calm)


def _lines(raw: str) -> str:
    """Return lines of the log with control characters escaped, the last one only if it is complete."""
    lines = raw.split("\n")
    if len(raw) >= RAW_LIMIT:
        lines[-1] = "…"
    return "\n".join(map(legible, lines)).rstrip("\n")


def _held(finding: Finding) -> list[Row]:
    """Return what held memory, the largest first, and what was free."""
    report, page = finding.report, finding.report.memory.page_kib
    places = sorted(postmortem.candidates(finding), key=lambda one: one.pages, reverse=True)
    if not places:
        return []
    killed = {kill.pid for kill in report.kills}
    held = [(postmortem.label(one.task), one.pages, one.task.pid in killed) for one in places[:_HOLDERS]]
    if rest := places[_HOLDERS:]:
        held.append((counted(len(rest), "more process", "es"), sum(one.pages for one in rest), False))
    pages = report.memory.pages
    if finding.constraint in ("none", None):  # these counters are those of the whole host
        slab = pages.get("slab_unreclaimable", 0) + pages.get("slab_reclaimable", 0)
        held.append(("The kernel's own objects (slab)", slab, False))
        held.append(("Shared memory and tmpfs, also of processes", pages.get("shmem", 0), False))
        held.append(("Huge pages", report.memory.huge_kib // page, False))
        held.append(("Free", pages.get("free", 0), False))
    whole = finding.total_pages or 0
    most = max([whole, *(size for _, size, _ in held)])
    return [
        Row(
            (
                Cell(name),
                Cell(kib(size * page), size),
                Cell(f"{size / whole:.0%}" if whole else "", size),
                Cell("", percent=round(size * 100 / (most or 1), 1)),
            ),
            is_killed,
        )
        for name, size, is_killed in held
        if size
    ]


def _together(finding: Finding) -> str:
    """Return what the parts are of, how much all processes have, and why that can be more."""
    whole, places = finding.total_pages, postmortem.candidates(finding)
    pages = sum(one.pages for one in places)
    together = f"{counted(len(places), 'process', 'es')} together: {postmortem.size(pages, finding)}"
    if whole is None:
        return f"{together}."
    if pages > whole:
        together += ", which is more, because shared memory counts in each process that uses it"
    return f"Parts are of the {postmortem.size(whole, finding)} that ran out. {together}."


def _before(incident: postmortem.Incident) -> Section:
    report = incident.finding.report
    found = grown(report, incident.before)
    samples = until_kill(report, incident.before)
    shown = [one.holder for one in found[:LINES]] or list(samples[-1].holders[:LINES])
    charts = [growth_chart(samples, shown)]
    if left := [one for one in incident.before if is_of_same(report, one)]:
        charts.append(left_chart(left))
    return Section("What grew before", charts=charts, table=growth_table(found, shown))


def _candidates(incident: postmortem.Incident, limit: int) -> Section:
    finding = incident.finding
    shown, hidden = postmortem.listed(incident, limit)
    killed = {kill.pid for kill in finding.report.kills}
    replayed = incident.replayed
    columns = [
        numbers("Now"),
        *([numbers("New")] if replayed else ()),
        *(Column("Name"), numbers("PID", is_lesser=True), numbers("UID", is_lesser=True)),
        *(numbers("Memory"), numbers("oom_score_adj"), numbers("Score", is_lesser=bool(replayed))),
        *([Column("Rule", is_lesser=True)] if replayed else ()),
    ]
    rows = [
        Row(tuple(_cells(one, finding, replayed.get(one.task.pid))), one.task.pid in killed) for one in shown
    ]
    notes = ["Score is the badness, in percent of the memory that ran out."] if finding.ranked else []
    notes += [f"And {hidden} more; --tasks 0 shows all."] if hidden else []
    return Section(
        "The kill order" if finding.ranked else "The candidates",
        table=Table(
            "The processes that the kernel considered",
            columns,
            rows,
            head=2 if replayed else 1,
            is_sortable=True,
        ),
        note=" ".join(notes),
    )


def _cells(one: Place, finding: Finding, replayed: Replayed | None) -> Iterator[Cell]:
    task, page = one.task, finding.report.memory.page_kib
    yield _place(one, is_ranked=bool(finding.ranked))
    if replayed is not None:
        yield _place(replayed.place, is_ranked=True)
    yield Cell(printable(task.comm))
    for number in (task.pid, task.uid):
        yield Cell(str(number), number)
    yield Cell(kib(one.pages * page), one.pages)
    yield Cell(postmortem.value_of(task, replayed), task.oom_score_adj)
    share = share_of(one, finding)
    yield Cell("", _NEVER) if share is None else Cell(f"{share:.1%}", round(share, 6))
    if replayed is not None:
        yield Cell("" if replayed.likely.rule is None else replayed.likely.rule.label)


_NEVER = -1e9
"""What is never killed is sorted behind all that may be."""


def _place(one: Place, *, is_ranked: bool) -> Cell:
    if one.place is None:
        return Cell("never" if is_ranked else "", -_NEVER)
    return Cell(str(one.place), one.place)
