"""A self-contained HTML page: reports for people who were not there.

The only importer of jinja2, which escapes all text. Should that fail, the page's own policy
(Content-Security-Policy) still allows no script and no style except the two in it, and loads nothing.
"""

import base64
import hashlib
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined

from oomguard import __version__
from oomguard.report.chart import Chart
from oomguard.report.postmortem import Fact


class Column(NamedTuple):
    """A column of a table; numbers are right-aligned, and sorted as numbers. A phone shows no lesser ones."""

    name: str
    is_number: bool = False
    is_lesser: bool = False


numbers = partial(Column, is_number=True)


class Cell(NamedTuple):
    """A cell: text, with the value it is sorted by and the line of the chart it explains; or a bar."""

    text: str
    value: float | None = None
    percent: float | None = None
    line: int | None = None


class Row(NamedTuple):
    """A row of a table."""

    cells: Sequence[Cell]
    is_killed: bool = False


class Table(NamedTuple):
    """A table; the column `head` says what each row is about."""

    caption: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    head: int = 0
    is_sortable: bool = False


class Section(NamedTuple):
    """A part of an article. What is empty is left out."""

    title: str
    facts: Sequence[Fact] = ()
    charts: Sequence[Chart] = ()
    table: Table | None = None
    note: str = ""


class Article(NamedTuple):
    """A headline and what belongs to it. `is_calm` if nothing was killed."""

    headline: str
    where: str = ""
    sections: Sequence[Section] = ()
    folded: Sequence[tuple[str, str]] = ()
    """Long texts, each under a title to click on."""
    is_calm: bool = False


class Page(NamedTuple):
    """A page: articles, and notes at its end."""

    title: str
    articles: Sequence[Article]
    notes: Sequence[str] = ()


def render(page: Page) -> str:
    """Return a page as HTML."""
    loader = PackageLoader("oomguard.report", "pages")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    style, script = (loader.get_source(environment, name)[0] for name in ("page.css", "page.js"))
    return environment.get_template("page.html").render(
        page=page,
        version=__version__,
        made=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M:%S %Z"),
        style=style,
        style_hash=_hash(style),
        script=script,
        script_hash=_hash(script),
    )


def _hash(text: str) -> str:
    """Return how a Content-Security-Policy names a text."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
