"""The policy language: every key, what it takes, and what it is for.

Pydantic validates files with these models, and `schema` describes them to editors. `messages.validation`
makes the messages, from the `Takes` of each key.
"""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Discriminator, Field, Tag, WithJsonSchema
from pydantic.functional_validators import AfterValidator, BeforeValidator

from oomguard.core.choices import Children, Scope, Trust
from oomguard.core.policy import Policy, PressureLimit
from oomguard.core.process import NAME_LIMIT
from oomguard.core.rule import CONDITIONS as ROWS
from oomguard.core.rule import OOM_SCORE_ADJ_MAX, OOM_SCORE_ADJ_MIN
from oomguard.policy import patterns
from oomguard.policy.language import BY_KIND, Flag, Language, Map, Number, Some, Takes, Word, key
from oomguard.policy.patterns import UID_MAX
from oomguard.policy.scalars import Surprise
from oomguard.policy.sysctl_model import Kernel, Vm
from oomguard.policy.when import When, some

CONDITIONS = tuple(row.key for row in ROWS)

_PATH_LIMIT = 4096
_REGEX_LIMIT = 1000


def _text(regex: str, *, limit: int) -> Any:
    """Describe a text to editors. `patterns` enforces the same, with better messages."""
    return Field(min_length=1, max_length=limit, json_schema_extra={"pattern": regex})


_UNIT = rf"^\S[\s\S]*(\*|\.({'|'.join(patterns.UNIT_KINDS)}))$|^\*$"
_Name = Annotated[str, _text(r"^\S([\s\S]*\S)?$", limit=NAME_LIMIT), AfterValidator(patterns.name)]
_Path = Annotated[str, _text(r"^[/*]([\s\S]*\S)?$", limit=_PATH_LIMIT), AfterValidator(patterns.path)]
_Unit = Annotated[str, _text(_UNIT, limit=NAME_LIMIT), AfterValidator(patterns.unit)]
_USER = r"^(?![0-9]+$)[^:/\s]([^:/]*[^:/\s])?$"
_UserName = Annotated[str, _text(_USER, limit=NAME_LIMIT), AfterValidator(patterns.user)]
_RegexText = Annotated[str, Field(min_length=1, max_length=_REGEX_LIMIT)]
_Regex = Annotated[_RegexText, AfterValidator(patterns.regex)]
_NameRegex = Annotated[_RegexText, AfterValidator(patterns.name_regex), Takes("a regular expression", (str,))]

Uid = Annotated[int, Field(ge=0, le=UID_MAX)]
SCORE = f"an integer from {OOM_SCORE_ADJ_MIN} to {OOM_SCORE_ADJ_MAX}"
Score = Annotated[int, Field(ge=OOM_SCORE_ADJ_MIN, le=OOM_SCORE_ADJ_MAX), Takes(SCORE, (int,))]


class NameRegex(Language):
    """A process name by a regular expression."""

    regex: _NameRegex = key(
        "Searched in the name: ^ is its start, $ its end. Lookaround and back references are not allowed.",
        "^(node|npm)$",
        default=...,
    )


def _some(words: str, *kinds: type) -> Takes:
    return Takes(f"{words}, or a list of them", kinds or (str,), words)


class Bound(Language):
    """A limit that leaves values beyond it alone: exactly one of the two."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 1})

    at_most: Score | None = key("Lowers a higher value; leaves a lower one alone.", -900)
    at_least: Score | None = key("Raises a lower value; leaves a higher one alone.", 300)


class Rule(Language):
    """Conditions on a process, and its oom_score_adj. The first rule that matches wins."""

    model_config = ConfigDict(json_schema_extra={"anyOf": [{"required": [one]} for one in CONDITIONS]})

    name: Annotated[
        Some[Annotated[Word[_Name] | Map[NameRegex], BY_KIND]] | None,
        _some("a process name, a glob or {regex: REGEX}"),
    ] = key(
        "The process name, exact, as a glob (* ? []) or as a regular expression (Python's, without "
        r"lookaround, back references and \b). The kernel keeps 15 bytes of a name; oomguard compares a "
        "longer one with the full name from the command line.",
        "sshd",
        ["postgres", "mysqld*"],
        {"regex": "^(node|npm)$"},
    )
    exe: Annotated[Some[_Path] | None, _some("a glob on an absolute path")] = key(
        "Glob on the path of the executable. Reading it needs CAP_SYS_PTRACE.",
        "/usr/lib/postgresql/*/bin/postgres",
    )
    cmdline: Annotated[Some[_Regex] | None, _some("a regular expression")] = key(
        "Regular expression, searched in the arguments joined by spaces.", r"java .*-jar .*/jenkins\.war"
    )
    user: Annotated[
        Some[Annotated[Word[_UserName] | Number[Uid], BY_KIND]] | None,
        _some(f"a user name or a uid from 0 to {UID_MAX}", str, int),
    ] = key(
        "Name or uid of the real user: for a setuid program, the user who started it."
        " Subordinate uids (subuid(5)) count as the user's, but are never protected.",
        "postgres",
        [1000, "backup"],
    )
    unit: Annotated[Some[_Unit] | None, _some("a glob on a unit name")] = key(
        "Glob on the system unit of the process; a user's own units never match.",
        "ssh.service",
        "batch-*.service",
    )
    user_unit: Annotated[Some[_Unit] | None, _some("a glob on a unit name")] = key(
        "Glob on the unit inside a user's own service manager.", "app-firefox-*.scope"
    )
    cgroup: Annotated[Some[_Path] | None, _some("a glob on a cgroup path")] = key(
        "Glob on the cgroup path; * also matches /. Only cgroups that root made are trusted.",
        "/user.slice/user-1000.slice/*",
    )
    oom_score_adj: Annotated[
        Number[Score] | Word[Literal["keep"]] | Map[Bound],
        BY_KIND,
        Takes(f"{SCORE}, keep, {{at_most: N}} or {{at_least: N}}", (int,)),
    ] = key(
        "-1000 is never killed, 1000 is killed first. keep matches the process and leaves it alone; at_most "
        "and at_least leave values beyond their limit alone.",
        *(-900, "keep", {"at_most": -900}, {"at_least": 300}),
        default=...,
    )
    scope: Annotated[Scope, Takes("all or main")] = key(
        "main: only the topmost process of a tree that matches, such as the sshd listener but not its "
        "sessions.",
        "main",
        default="all",
    )
    children: Annotated[Children, Takes("reset or inherit")] = key(
        "reset: a descendant that matches no rule and still has the inherited value gets its ancestor's "
        "original value. inherit: it keeps the inherited value.",
        "inherit",
        default="reset",
    )
    trust: Annotated[Trust, Takes("verified or name")] = key(
        "verified: a rule that protects by name alone applies only to trusted processes. "
        "name: it applies to any process with that name.",
        "name",
        default="verified",
    )
    containers: Flag = key(
        "Whether processes in containers match. Processes in user sandboxes always match.",
        True,
        default=False,
    )


def sysctls(example: str) -> Takes:
    """Return what a section of sysctls takes."""
    return Takes("a mapping of sysctls and their values", hint=f"write one per line, without '- ': {example}")


def off_as_false(value: object) -> object:
    """Return False for `off`, however YAML reads it."""
    return False if isinstance(value, Surprise) and value.text == "off" else value


def _off(value: object) -> object:
    """Return False for `off` and `false`, else None: 0 is equal to False, too."""
    return False if off_as_false(value) is False else None


_Off = Annotated[Literal[False], BeforeValidator(_off), WithJsonSchema({"enum": [False, "off"]})]
_OnOrOff = Annotated[bool, WithJsonSchema({"enum": [True, False, "off"]})]
"""YAML 1.1 reads `off` as false, the YAML 1.2 of editors as a text."""
_Percent = Annotated[
    str,
    Field(pattern=r"^([1-9][0-9]?|100)%$"),
    Takes("a share from 1% to 100%", hint="write it as in 10%"),
]
_Window = Annotated[Literal["2s", "4s", "6s", "8s", "10s"], Takes("2s, 4s, 6s, 8s or 10s")]


class Pressure(Language):
    """From which pressure on to warn that memory is running out."""

    some: _Percent = key(
        "The share of the time in which some task stalls for memory.",
        "10%",
        default=f"{PressureLimit().some_percent}%",
    )
    over: _Window = key("The time that the share is of.", "2s", default="2s")


_PressureOrOff = Annotated[
    Annotated[Pressure, Tag("<limits>")] | Annotated[_Off, Tag("<off>")],
    Discriminator(lambda value: "<limits>" if isinstance(value, dict) else "<off>"),
]


class Document(Language):
    """A whole policy file."""

    when: Annotated[
        Annotated[When, AfterValidator(some)] | None,
        Takes("a mapping of conditions on the host", hint="write when: {memory: '>= 64GiB'}, for example"),
    ] = key(
        "The hosts on which this file counts; all conditions must hold.",
        {"memory": ">= 64GiB", "swap": "none"},
    )
    vm: Annotated[Vm | None, sysctls("swappiness: 10")] = key(
        "vm.* sysctls by their kernel names.", {"overcommit_memory": 2}
    )
    kernel: Annotated[Kernel | None, sysctls("panic: 10")] = key(
        "kernel.* sysctls by their kernel names.", {"panic": 10}
    )
    rules: Annotated[
        list[Rule] | None,
        Takes(
            "a list of rules",
            each="a rule: conditions and an oom_score_adj",
            hint="start each rule with '- ', as in '- name: sshd', and align its other keys with name",
        ),
    ] = key(
        "Which processes are killed first or last. The first rule that matches a process wins.",
        [{"name": "haproxy", "scope": "main", "oom_score_adj": {"at_most": -900}}],
    )
    commit_headroom: Annotated[int | None, Takes("an integer from 0 to 1000 (percent)", (int,))] = key(
        "Percent by which CommitLimit must exceed Committed_AS before oomguard enables strict accounting. "
        f"Default: {Policy().commit_headroom_percent}.",
        10,
        ge=0,
        le=1000,
    )
    force: Flag | None = key(
        "true: apply strict accounting and other values that oomguard would refuse on this host; every later "
        "allocation may then fail. Default: false.",
        False,
    )
    resync_interval: Annotated[int | None, Takes("an integer from 1 to 86400 (seconds)", (int,))] = key(
        f"Seconds between two passes over all processes. Default: {Policy().resync_interval_seconds}.",
        60,
        ge=1,
        le=86400,
    )
    pressure: Annotated[
        _PressureOrOff | None, Takes("off, or some: and over:, as in {some: 10%, over: 2s}")
    ] = key(
        "When to warn that memory is running out: if some task stalls for so much of a time, and little "
        f"memory is left. off: never. some is from 1% to 100%, over is 2s, 4s, 6s, 8s or 10s. "
        f"Default: {PressureLimit().some_percent}% of {PressureLimit().over_seconds}s.",
        {"some": "10%", "over": "2s"},
    )
    recorder: Annotated[_OnOrOff | None, BeforeValidator(off_as_false), Takes("off or true", (bool,))] = key(
        "off: do not record what holds memory. `oomguard history` shows what is recorded. Default: true.",
        False,
    )
