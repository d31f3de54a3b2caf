"""The page at `/`: whether a daemon runs, its policy and its problems, as HTML or as text."""

import time
from collections.abc import Iterable, Sequence
from html import escape
from typing import NamedTuple

from oomguard import __version__
from oomguard.core.policy import some_files
from oomguard.core.text import counted, span
from oomguard.report.problems import complaint, complaints, problems
from oomguard.report.status_file import UNREADABLE, StatusFile

_STYLE = """\
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em }
h1 { font-size: 1.5em; border-left: .3em solid #2a9d4a; padding-left: .5em }
.down h1 { border-color: #d33 }
h2 { font-size: 1.1em; margin: 1.5em 0 .3em }
table { border-spacing: 0 }
td { vertical-align: top; padding: .1em 1.5em .1em 0; overflow-wrap: anywhere }
"""

_LINKS = (
    ("/metrics", "metrics for Prometheus"),
    ("docs/metrics.md", "in oomguard's documentation: alerts, a dashboard, other hosts"),
)

Table = tuple[str, Sequence[tuple[str, ...]]]


class Page(NamedTuple):
    """What the page says. Every string is plain text, not markup."""

    title: str
    is_up: bool
    tables: Sequence[Table]
    """The sections, each with its heading."""


def describe(status: StatusFile | None, trouble: str, *, now: float, rule_limit: int) -> Page:
    """Return the page of a running daemon; without `status`, one with the `trouble`."""
    if status is None:
        found = [("Exporter", __version__), ("Reason", trouble)]
        return Page("oomguard is down", is_up=False, tables=[("Daemon", found)])
    policy = status.policy
    loaded = time.strftime("%F %T %Z", time.localtime(policy.loaded_at))
    daemon = [
        ("Version", status.version),
        ("Running for", span(now - status.started_at)),
        ("Policy", some_files(policy.files)),
        ("Last reload", f"{loaded}, {span(now - policy.loaded_at)} ago"),
        ("Rules", str(policy.rules)),
        ("Managed", counted(status.processes_held, "process", "es")),
    ]
    wrong: list[tuple[str, ...]] = [(text,) for text in _problems(status)] or [("none",)]
    rules: list[tuple[str, ...]] = [
        (row.label, row.value, counted(row.processes, "process", "es")) for row in status.rules[:rule_limit]
    ]
    if more := len(status.rules[rule_limit:]):
        rules.append((counted(more, "more rule"), "", "see oomguard status"))
    tables: list[Table] = [
        ("Daemon", daemon),
        ("Problems", wrong),
        ("Rules that match", rules or [("none",)]),
    ]
    return Page("oomguard is up", is_up=True, tables=tables)


def _problems(status: StatusFile) -> Iterable[str]:
    """Yield the problems. None names a process: with `hidepid=`, the reader may not know which run."""
    limits = dict.fromkeys(
        f"{UNREADABLE}; see oomguard status" if limit.startswith(UNREADABLE) else limit
        for limit in status.limits
    )
    at = status.written_monotonic  # the source has refused a file that is late
    yield from (text.strip() for text, _ in problems(status._replace(limits=(*limits,)), at))
    sysctls = {row.name for row in status.sysctls}
    rules: dict[str, None] = {}
    for group in complaints(status):
        one = group[0]
        if one.subject in sysctls:
            yield complaint(group)
        else:
            rules[f"{one.result}: oom_score_adj → {one.wanted} ({one.by}); see oomguard status"] = None
    yield from rules


def as_html(page: Page) -> bytes:
    """Return the page for a browser. It loads nothing, and is readable as source, too."""
    lines = [
        '<!doctype html><html lang="en"><meta charset="utf-8">',
        f'<meta name="viewport" content="width=device-width"><title>{escape(page.title)}</title>',
        f"<style>\n{_STYLE}</style>",
        f'<body class="{"up" if page.is_up else "down"}">',
        f"<h1>{escape(page.title)}</h1>",
    ]
    for heading, rows in page.tables:
        lines.append(f"<h2>{escape(heading)}</h2>\n<table>")
        lines += (f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
        lines.append("</table>")
    (path, what), (name, about) = _LINKS
    lines.append(f'<p><a href="{path}">{path}</a>: {what}<br>{name} {about}</p>')
    return "\n".join([*lines, ""]).encode()


def as_text(page: Page) -> bytes:
    """Return the page for a terminal."""
    lines = [page.title]
    for heading, rows in [*page.tables, ("See also", _LINKS)]:
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines += ["", heading]
        for row in rows:
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            lines.append(f"  {'  '.join(cells)}".rstrip())
    return "\n".join([*lines, ""]).encode()
