"""Write the parts of the manual that come from the code: `python docs/man/manual.py`.

`oomguard.8` and `oomguard.yaml.5` are written by hand, in mdoc(7), except for the parts between the
comments `begin NAME` and `end NAME`: verbs and options come from the parser, message ids from the table of
events and the journal catalog, keys from the models of the policy.
"""

import argparse
import re
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import yaml

from oomguard.cli.main import build_parser
from oomguard.core.sysctl import INT_MAX, SYSCTLS, ULONG_MAX, Sysctl
from oomguard.policy.cases.case_model import Case, CaseFile, CaseProcess, Expected, Host
from oomguard.policy.language import Language, models, wanted
from oomguard.policy.model import CONDITIONS, Bound, Document, Rule
from oomguard.policy.when import When
from oomguard.report.events import APPLIED, EVENTS, KILLED

FOLDER = Path(__file__).parent
CATALOG = FOLDER.parents[1] / "systemd" / "oomguard.catalog"

_WIDTH = 78
_END = "...\n"
"""What yaml.dump writes after a lone scalar."""

_PRIORITIES = {3: "error", 4: "warning", 5: "notice", 6: "info"}
_OTHERWISE = {
    APPLIED: "; warning if the kernel set another value",
    KILLED: "; error if its value was below 0",
}
"""When an entry has another priority than its event."""


# mdoc


def literal(text: str) -> str:
    """Return text that is shown as it is: no hyphenation, no macros."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"^(?=[.'])", r"\&", text, flags=re.MULTILINE)


def argument(text: str) -> str:
    """Return text as one argument of a macro."""
    quoted = literal(text).replace('"', r"\(dq")
    return f'"{quoted}"'


def prose(text: str) -> Iterator[str]:
    """Return sentences, each on a line of its own; what stands in backquotes is set as literal."""
    text = re.sub(r"(?<=[.!?])\s+", "\n", re.sub(r"\s+", " ", text.strip()))
    for line in text.split("\n"):
        # `word`, with the punctuation around it that is set without a space.
        for part in re.split(r"(\(?`[^`]+`[.,:;?)]*)", line):
            marked = re.fullmatch(r"(\(?)`([^`]+)`([.,:;?)]*)", part)
            if marked:
                before, word, after = marked.groups()
                yield " ".join([".Ql", *before, argument(word), *after])
            else:  # a line that begins with a space would end the one before it
                escaped = re.sub(r"(?<!\w)-|(?<=-)-", r"\\-", part.strip().replace("\\", "\\e"))
                for wrapped in textwrap.wrap(escaped, _WIDTH, break_long_words=False, break_on_hyphens=False):
                    yield re.sub(r"^(?=[.'])", r"\&", wrapped)


def tagged(items: Iterator[list[str]]) -> list[str]:
    """Return a list whose items begin with their `.It` line."""
    return [".Bl -tag -width Ds", *(line for item in items for line in item), ".El"]


# oomguard(8)


def _verbs() -> dict[str, argparse.ArgumentParser]:
    for action in build_parser()._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    raise AssertionError("the parser has no verbs")


def _arguments(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    return [action for action in parser._actions if not isinstance(action, argparse._HelpAction)]


def _term(action: argparse.Action) -> str:
    """Return an option or argument as macros: `Fl -policy Ar FILE`."""
    if not action.option_strings:
        return f"Ar {action.metavar or action.dest}{' ...' if action.nargs in ('*', '+') else ''}"
    names = " , ".join(f"Fl {name[1:]}" for name in action.option_strings)
    if action.nargs == 0:
        return names
    return f"{names} Ar {action.metavar or action.dest.upper()}"


def synopsis() -> Iterator[str]:
    """Return every verb with all that it takes."""
    for name, parser in _verbs().items():
        yield from (".Nm", f".Cm {name}")
        for action in _arguments(parser):
            optional = action.option_strings and not action.required
            optional = optional or action.nargs in ("?", "*")
            yield f".Op {_term(action)}" if optional else f".{_term(action)}"


def _common() -> list[argparse.Action]:
    """Return the options that several verbs take with one meaning."""
    taken = [action for parser in _verbs().values() for action in _arguments(parser) if action.option_strings]
    several = Counter((action.dest, action.help) for action in taken)
    first = {(action.dest, action.help): action for action in reversed(taken)}
    return [first[key] for key, count in several.items() if count > 1]


def _item(action: argparse.Action, parser: argparse.ArgumentParser) -> list[str]:
    about = parser._get_formatter()._expand_help(action)
    lines = [f".It {_term(action)}", *prose(_sentence(about))]
    if action.choices is not None and not all(choice in about for choice in action.choices):
        *others, last = map(literal, action.choices)
        lines += ["One of", *(f".Cm {other} ," for other in others), f".Cm {last} ."]
    return lines


def _sentence(text: str) -> str:
    # A name, or a word of the policy, is written as it is.
    if not re.match(r"oomguard\b|\w+:|\w+\.\S", text):
        text = text[0].upper() + text[1:]
    return text if text.endswith((".", ".)")) else text + "."


def options() -> Iterator[str]:
    """Return the options that several verbs take."""
    parser = build_parser()
    yield from tagged(_item(action, parser) for action in _common())


def verbs() -> Iterator[str]:
    """Return a section for each verb: its help, without what all verbs take."""
    common = {(action.dest, action.help) for action in _common()}
    for name, parser in _verbs().items():
        yield f".Ss oomguard {name}"
        yield from prose(parser.description or "")
        own = [action for action in _arguments(parser) if (action.dest, action.help) not in common]
        if own:
            yield from tagged(_item(action, parser) for action in own)
        for paragraph in (parser.epilog or "").strip("\n").split("\n\n"):
            heading, _, rest = paragraph.partition(":")
            if heading in ("example", "examples"):
                lines = [literal(line.removeprefix("  ")) for line in rest.strip("\n").split("\n")]
                yield from (".Pp", f"{heading.capitalize()}:", ".Bd -literal -offset 2n", *lines, ".Ed")
            elif heading in ("exit code", "exit codes"):
                yield from (".Pp", *prose(_sentence(f"Exit status: {rest.strip()}")))
            elif paragraph.strip():
                yield from (".Pp", *prose(paragraph))


def subjects() -> dict[str, str]:
    """Return what the catalog calls each message, by id."""
    found = re.findall(r"^-- ([0-9a-f]{32})\nSubject: (.*)$", CATALOG.read_text(), re.MULTILINE)
    return {number: re.sub(r"@(?:OOMGUARD|OBJECT)_(\w+)@", r"\1", subject) for number, subject in found}


def messages() -> Iterator[str]:
    """Return every event with its priority, id and meaning."""
    known = subjects()
    yield from tagged(
        [
            f".It Cm {event.name} Pq {_PRIORITIES[event.priority]}{_OTHERWISE.get(event, '')}",
            f".Li {event.message_id}",
            ".br",
            *prose(_sentence(known[event.message_id])),
        ]
        for event in EVENTS
    )


# oomguard.yaml(5)


def _key(*keys: str, language: type[Language] = Document) -> list[str]:
    """Return one key: what it takes, what it is if not given, what it means, and examples."""
    name, field = keys[-1], models(language)[keys[:-1]].model_fields[keys[-1]]
    about, takes = field.description or "", wanted(language, keys).words
    lines = [f".It Ic {name}", *prose(f"Takes {takes}.")]
    if field.is_required():
        lines.append("It is required.")
    elif field.default is not None:
        lines += prose(f"Default: {_yaml(field.default)}.")
    lines += prose(_sentence(about))
    for value in field.examples or []:
        shown = yaml.safe_dump(value, default_flow_style=True, width=1000, sort_keys=False)
        if value is False and takes.startswith("off"):
            shown = "off"  # in JSON, which editors read, it is false
        lines.append(f".Dl {literal(name)}: {literal(shown.removesuffix(_END).rstrip())}")
    return lines


def _yaml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def top() -> Iterator[str]:
    """Return the keys at the top of a policy."""
    yield from tagged(_key(key) for key in Document.model_fields)


def when() -> Iterator[str]:
    """Return the conditions on a host."""
    yield from tagged(_key("when", key) for key in When.model_fields)


def conditions() -> Iterator[str]:
    """Return the conditions of a rule."""
    yield from tagged(_key("rules", key) for key in CONDITIONS)


def terms() -> Iterator[str]:
    """Return what a rule says beside its conditions."""
    yield from tagged(_key("rules", key) for key in Rule.model_fields if key not in CONDITIONS)


def bounds() -> Iterator[str]:
    """Return the two bounds that a value can be."""
    yield from tagged(_key("rules", "oom_score_adj", key) for key in Bound.model_fields)


def cases() -> Iterator[str]:
    """Return the keys at the top of a case file."""
    yield from tagged(_key(key, language=CaseFile) for key in CaseFile.model_fields)


def case() -> Iterator[str]:
    """Return the keys of a case."""
    yield from tagged(_key("cases", key, language=CaseFile) for key in Case.model_fields)


def processes() -> Iterator[str]:
    """Return the keys of a process in a case."""
    yield from tagged(_key("cases", "processes", key, language=CaseFile) for key in CaseProcess.model_fields)


def expectations() -> Iterator[str]:
    """Return what a case can expect of a process."""
    keys = [("cases", "processes", "expect", key) for key in Expected.model_fields]
    yield from tagged(_key(*one, language=CaseFile) for one in keys)


def hosts() -> Iterator[str]:
    """Return what a case can say of its host."""
    yield from tagged(_key("host", key, language=CaseFile) for key in Host.model_fields)


def sysctls() -> Iterator[str]:
    """Return every sysctl with the values that a policy may give it."""
    yield from tagged(
        [
            f".It Cm {literal(row.name)}",
            *prose(f"{_power(row.low)} to {_power(row.high)}."),
            *prose(_sentence(row.summary)),
            *([f"Since Linux {row.since}."] if row.since else []),
            *prose(_also(row)),
        ]
        for row in SYSCTLS.values()
    )


def _also(row: Sysctl) -> str:
    """Return which values it takes that fit the host."""
    amount = "a size or a share of MemTotal" if row.of_ram else "a size"
    size = f"{amount}, rounded down to a {row.unit.removesuffix('s')}" if row.unit else ""
    also = [one for one in (size, "at_least and at_most" if row.has_order else "") if one]
    return f"Also takes {'; '.join(also)}." if also else ""


def fitting() -> Iterator[str]:
    """Return the keys of values that fit the host."""
    keys = [("vm", "min_free_kbytes", key) for key in models(Document)["vm", "min_free_kbytes"].model_fields]
    yield from tagged(_key(*one) for one in [*keys, ("vm", "commit_limit"), ("vm", "commit_limit", "leave")])


def _power(number: int) -> str:
    return {INT_MAX: "2^31-1", ULONG_MAX: "2^64-1"}.get(number, str(number))


# The pages

Part = Callable[[], Iterator[str]]
PAGES: dict[str, tuple[Part, ...]] = {
    "oomguard.8": (synopsis, options, verbs, messages),
    "oomguard.yaml.5": (
        *(top, when, fitting, sysctls, conditions, terms, bounds),
        *(cases, case, processes, expectations, hosts),
    ),
}
"""By file: the parts that are made from the code, under the names of the functions that make them."""


def page(name: str) -> str:
    """Return a page with its parts as the code has them now."""
    text = (FOLDER / name).read_text()
    for part in PAGES[name]:
        begin, end = f'.\\" begin {part.__name__}\n', f'.\\" end {part.__name__}\n'
        before, found, rest = text.partition(begin)
        _, closed, after = rest.partition(end)
        if not found or not closed:
            raise ValueError(f"{name}: {begin.strip()} or {end.strip()} is missing")
        text = before + begin + "".join(f"{line}\n" for line in part()) + end + after
    return text


if __name__ == "__main__":
    for name in PAGES:
        made = page(name)
        (FOLDER / name).write_text(made)
