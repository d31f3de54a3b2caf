"""The policy language: every key, what it takes, and what it is for.

Pydantic validates files with these models, and `schema` describes them to editors. `prose` makes the
messages, from the `Takes` of each key.
"""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Discriminator, Field, Tag
from pydantic.functional_validators import AfterValidator, BeforeValidator

from oomguard.core.policy import Policy, PressureLimit
from oomguard.core.process import NAME_LIMIT
from oomguard.core.rule import CONDITIONS as ROWS
from oomguard.core.rule import OOM_SCORE_ADJ_MAX, OOM_SCORE_ADJ_MIN, Children, Scope, Trust
from oomguard.policy import patterns
from oomguard.policy.language import Language, Some, Takes, kind_of
from oomguard.policy.scalars import Surprise
from oomguard.policy.sysctl_model import MAPPINGS, Kernel, Vm
from oomguard.policy.when import When, some

CASES = "<cases>"
"""The first key of the models of case files in `MODELS`."""

UID_MAX = 2**32 - 2  # the next one is (uid_t) -1, which means no user
CONDITIONS = tuple(row.key for row in ROWS)


def _text(regex: str, *, limit: int) -> Any:
    """Describe a text to editors. `patterns` enforces the same, with better messages."""
    return Field(min_length=1, max_length=limit, json_schema_extra={"pattern": regex})


_PATH_LIMIT = 4096
_REGEX_LIMIT = 1000

_Name = Annotated[str, _text(r"^\S([\s\S]*\S)?$", limit=NAME_LIMIT), AfterValidator(patterns.name)]
_Path = Annotated[str, _text(r"^[/*]([\s\S]*\S)?$", limit=_PATH_LIMIT), AfterValidator(patterns.path)]
_Unit = Annotated[
    str,
    _text(rf"^\S[\s\S]*(\*|\.({'|'.join(patterns.UNIT_SUFFIXES)}))$|^\*$", limit=NAME_LIMIT),
    AfterValidator(patterns.unit),
]
_Regex = Annotated[str, Field(min_length=1, max_length=_REGEX_LIMIT), AfterValidator(patterns.regex)]
_UserName = Annotated[
    str, _text(r"^[^:/\s]([^:/]*[^:/\s])?$", limit=NAME_LIMIT), AfterValidator(patterns.user)
]
_User = Annotated[
    Annotated[_UserName, Tag("<word>")] | Annotated[int, Field(ge=0, le=UID_MAX), Tag("<number>")],
    Discriminator(kind_of),
]


class NameRegex(Language):
    """A process name by a regular expression."""

    regex: Annotated[
        Annotated[str, Field(min_length=1, max_length=_REGEX_LIMIT), AfterValidator(patterns.name_regex)],
        Takes("a regular expression", (str,)),
    ] = Field(
        description="Searched in the name: ^ is its start, $ its end. Lookaround and back references are"
        " not allowed.",
        examples=["^(node|npm)$"],
    )


_NameOrRegex = Annotated[
    Annotated[_Name, Tag("<word>")] | Annotated[NameRegex, Tag("<mapping>")], Discriminator(kind_of)
]


def _some(words: str, *kinds: type) -> Takes:
    return Takes(f"{words}, or a list of them", kinds or (str,), words)


SCORE = f"an integer from {OOM_SCORE_ADJ_MIN} to {OOM_SCORE_ADJ_MAX}"
Score = Annotated[int, Field(ge=OOM_SCORE_ADJ_MIN, le=OOM_SCORE_ADJ_MAX)]


class Bound(Language):
    """A limit that leaves values beyond it alone: exactly one of the two."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 1})

    at_most: Annotated[Score | None, Takes(SCORE, (int,))] = Field(
        None, description="Lowers a higher value; leaves a lower one alone.", examples=[-900]
    )
    at_least: Annotated[Score | None, Takes(SCORE, (int,))] = Field(
        None, description="Raises a lower value; leaves a higher one alone.", examples=[300]
    )


class Rule(Language):
    """Conditions on a process, and its oom_score_adj. The first rule that matches wins."""

    model_config = ConfigDict(json_schema_extra={"anyOf": [{"required": [key]} for key in CONDITIONS]})

    name: Annotated[Some[_NameOrRegex] | None, _some("a process name, a glob or {regex: REGEX}")] = Field(
        None,
        description="The process name, exact, as a glob (* ? []) or as a regular expression. The kernel"
        " keeps 15 bytes of a name; oomguard compares a longer one with the full name from the command line.",
        examples=["sshd", ["postgres", "mysqld*"], {"regex": "^(node|npm)$"}],
    )
    exe: Annotated[Some[_Path] | None, _some("a glob on an absolute path")] = Field(
        None,
        description="Glob on the path of the executable. Reading it needs CAP_SYS_PTRACE.",
        examples=["/usr/lib/postgresql/*/bin/postgres"],
    )
    cmdline: Annotated[Some[_Regex] | None, _some("a regular expression")] = Field(
        None,
        description="Regular expression, searched in the arguments joined by spaces.",
        examples=[r"java .*-jar .*/jenkins\.war"],
    )
    user: Annotated[Some[_User] | None, _some(f"a user name or a uid from 0 to {UID_MAX}", str, int)] = Field(
        None,
        description="Name or uid of the real user: for a setuid program, the user who started it."
        " Subordinate uids (subuid(5)) count as the user's.",
        examples=["postgres", [1000, "backup"]],
    )
    unit: Annotated[Some[_Unit] | None, _some("a glob on a unit name")] = Field(
        None,
        description="Glob on the system unit of the process; a user's own units never match.",
        examples=["ssh.service", "batch-*.service"],
    )
    user_unit: Annotated[Some[_Unit] | None, _some("a glob on a unit name")] = Field(
        None,
        description="Glob on the unit inside a user's own service manager.",
        examples=["app-firefox-*.scope"],
    )
    cgroup: Annotated[Some[_Path] | None, _some("a glob on a cgroup path")] = Field(
        None,
        description="Glob on the cgroup path; * also matches /. Only cgroups that root made are trusted.",
        examples=["/machine.slice/*"],
    )
    oom_score_adj: Annotated[
        Annotated[Score, Tag("<number>")]
        | Annotated[Literal["keep"], Tag("<word>")]
        | Annotated[Bound, Tag("<mapping>")],
        Discriminator(kind_of),
        Takes(f"{SCORE}, keep, {{at_most: N}} or {{at_least: N}}", (int,)),
    ] = Field(
        description="-1000 is never killed, 1000 is killed first. keep matches the process and leaves it "
        "alone; at_most and at_least leave values beyond their limit alone.",
        examples=[-900, "keep", {"at_most": -900}, {"at_least": 300}],
    )
    scope: Annotated[Scope, Takes("all or main")] = Field(
        "all",
        description="main: only the topmost process of a tree that matches, such as the sshd listener "
        "but not its sessions.",
        examples=["main"],
    )
    children: Annotated[Children, Takes("reset or inherit")] = Field(
        "reset",
        description="reset: a descendant that matches no rule and still has the inherited value gets its "
        "ancestor's original value. inherit: it keeps the inherited value.",
        examples=["inherit"],
    )
    trust: Annotated[Trust, Takes("verified or name")] = Field(
        "verified",
        description="verified: a rule that protects by name alone applies only to trusted processes. "
        "name: it applies to any process with that name.",
        examples=["name"],
    )
    containers: Annotated[bool, Takes("true or false", (bool,))] = Field(
        default=False,
        description="Whether processes in containers match. Processes in user sandboxes always match.",
        examples=[True],
    )


def _sysctls(example: str) -> Takes:
    return Takes("a mapping of sysctls and their values", hint=f"write one per line, without '- ': {example}")


def _off(value: object) -> object:
    """Return False for `off`, however YAML reads it."""
    return False if isinstance(value, Surprise) and value.text == "off" else value


_Off = Annotated[Literal[False], BeforeValidator(_off)]
_PERCENT = "a share from 1% to 100%"
_WINDOW = "2s, 4s, 6s, 8s or 10s"


class Pressure(Language):
    """From which pressure on to warn that memory is running out."""

    some: Annotated[
        str, Field(pattern=r"^([1-9][0-9]?|100)%$"), Takes(_PERCENT, hint="write it as in 10%")
    ] = Field(
        f"{PressureLimit().some_percent}%",
        description="The share of the time in which some task stalls for memory.",
        examples=["10%"],
    )
    over: Annotated[Literal["2s", "4s", "6s", "8s", "10s"], Takes(_WINDOW)] = Field(
        "2s", description="The time that the share is of.", examples=["2s"]
    )


def _off_or_limits(value: object) -> str:
    return "<limits>" if isinstance(value, dict) else "<off>"


_PressureOrOff = Annotated[
    Annotated[Pressure, Tag("<limits>")] | Annotated[_Off, Tag("<off>")], Discriminator(_off_or_limits)
]


class Document(Language):
    """A whole policy file."""

    when: Annotated[
        Annotated[When, AfterValidator(some)] | None,
        Takes("a mapping of conditions on the host", hint="write when: {memory: '>= 64GiB'}, for example"),
    ] = Field(
        None,
        description="The hosts on which this file counts; all conditions must hold.",
        examples=[{"memory": ">= 64GiB", "swap": "none"}],
    )
    vm: Annotated[Vm | None, _sysctls("swappiness: 10")] = Field(
        None, description="vm.* sysctls by their kernel names.", examples=[{"overcommit_memory": 2}]
    )
    kernel: Annotated[Kernel | None, _sysctls("panic: 10")] = Field(
        None, description="kernel.* sysctls by their kernel names.", examples=[{"panic": 10}]
    )
    rules: Annotated[
        list[Rule] | None,
        Takes(
            "a list of rules",
            each="a rule: conditions and an oom_score_adj",
            hint="start each rule with '- ', as in '- name: sshd', and align its other keys with name",
        ),
    ] = Field(
        None,
        description="Which processes are killed first or last. The first rule that matches a process wins.",
        examples=[[{"name": "haproxy", "scope": "main", "oom_score_adj": {"at_most": -900}}]],
    )
    commit_headroom: Annotated[int | None, Takes("an integer from 0 to 1000 (percent)", (int,))] = Field(
        None,
        ge=0,
        le=1000,
        description="Percent by which CommitLimit must exceed Committed_AS before oomguard enables strict "
        f"accounting. Default: {Policy().commit_headroom_percent}.",
        examples=[10],
    )
    force: Annotated[bool | None, Takes("true or false", (bool,))] = Field(
        None,
        description="true: apply strict accounting and other values that oomguard would refuse on this "
        "host; every later allocation may then fail.",
        examples=[False],
    )
    resync_interval: Annotated[int | None, Takes("an integer from 1 to 86400 (seconds)", (int,))] = Field(
        None,
        ge=1,
        le=86400,
        description="Seconds between two passes over all processes. "
        f"Default: {Policy().resync_interval_seconds}.",
        examples=[60],
    )
    pressure: Annotated[
        _PressureOrOff | None,
        Takes("off, or some: and over:, as in {some: 10%, over: 2s}"),
    ] = Field(
        None,
        description="When to warn that memory is running out: if some task stalls for so much of a time, and"
        " little memory is left. off: never.",
        examples=[{"some": "10%", "over": "2s"}],
    )
    recorder: Annotated[bool | None, BeforeValidator(_off), Takes("off or true", (bool,))] = Field(
        None,
        description="off: do not record what holds memory. `oomguard history` shows what is recorded.",
        examples=[False],
    )


MODELS: dict[tuple[str, ...], type[Language]] = {
    (): Document,
    ("when",): When,
    ("vm",): Vm,
    ("kernel",): Kernel,
    ("pressure",): Pressure,
    **MAPPINGS,
    ("rules",): Rule,
    ("rules", "name"): NameRegex,
    ("rules", "oom_score_adj"): Bound,
}
"""The model of each section, by its keys. `case_model` adds those of case files."""


def wanted(keys: tuple[str, ...]) -> Takes:
    """Return what the key at `keys` takes, as `("rules", "scope")`."""
    model = MODELS.get(keys[:-1])
    if model is not None and keys[-1:] and keys != (CASES,):
        for mark in model.model_fields[keys[-1]].metadata:
            if isinstance(mark, Takes):
                return mark
    elif model is None:  # its keys are not the language's
        return wanted(keys[:-1]).of_each
    return Takes("a mapping with " + ", ".join(MODELS[keys].model_fields))
