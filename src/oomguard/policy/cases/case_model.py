"""The language of case files: tests of policies, for `oomguard test`.

It has the language of policies in it: a case may have its policy written in it.
"""

from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from pydantic import ConfigDict, Field, create_model, model_validator
from pydantic.functional_validators import AfterValidator

from oomguard.core.sysctl import SYSCTLS
from oomguard.policy import patterns, values
from oomguard.policy.language import BY_KIND, Flag, Language, Listed, Map, Number, Takes, Word, key, pattern
from oomguard.policy.model import SCORE, Document, Score, Uid, sysctls
from oomguard.policy.patterns import UID_MAX

PID_MAX = 2**22
"""Where pids end (include/linux/threads.h:PID_MAX_LIMIT)."""

_SIZE = Takes("a size such as 16GiB", (str,))
_REASON = Takes("a part of the reason", (str,))
_Text = Annotated[str, Field(min_length=1, max_length=4096), AfterValidator(patterns.plain_text)]
_Name = Annotated[
    str, Field(max_length=255), AfterValidator(patterns.plain_text), Takes("a process name", (str,))
]
_Path = Annotated[
    str,
    Field(max_length=4096, json_schema_extra={"pattern": "^/"}),
    AfterValidator(patterns.absolute),
    Takes("an absolute path", (str,)),
]
_Unit = Annotated[
    str,
    Field(min_length=1, max_length=255),
    AfterValidator(patterns.unit_name),
    Takes("the name of a unit", (str,)),
]
_Release = Annotated[
    str,
    Field(max_length=64, pattern=r"^[0-9]+\.[0-9]+([.+-].*)?$"),
    Takes("a kernel release", (str,), hint="quote it: '6.12'"),
]
_Size = Annotated[str, pattern(values.SIZE), AfterValidator(values.size), _SIZE]
_Swap = Annotated[
    str,
    pattern(f"{values.SIZE}|none"),
    AfterValidator(lambda text: values.size("0KiB" if text == "none" else text)),
    _SIZE,
]
_NameOrNumber = Annotated[
    Word[Annotated[str, Field(min_length=1, max_length=255)]] | Number[Uid],
    BY_KIND,
]
_User = Annotated[_NameOrNumber, Takes(f"a user name or a uid from 0 to {UID_MAX}", (str, int))]
_Integer = Annotated[int, Takes("an integer", (int,))]


class Something(Language):
    """A mapping that cannot be empty."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    @model_validator(mode="after")
    def _is_something(self) -> "Something":
        if not self.model_fields_set:
            raise patterns.refusal("empty", "expects nothing", "write what to expect, or remove it")
        return self


class Expected(Something):
    """What `oomguard explain` would show for a process. Missing keys are not compared."""

    oom_score_adj: Score | None = key("The value that the process has under the policy.", -900)
    rule: Annotated[_Text | None, Takes("a rule as file:line or as oomguard shows it, or none", (str,))] = (
        key(
            "The rule that matches: FILE:LINE, or its conditions as explain shows them. none: no rule.",
            *("name=sshd", "oomguard.yaml:12", "none"),
        )
    )
    refused: Annotated[_Text | None, _REASON] = key(
        "A part of the reason why oomguard refuses to protect the process.",
        "uid 1000 could give any program this name",
    )


class CaseProcess(Language):
    """A process: its facts, and what the policy should do with it."""

    name: _Name = key(
        "Its name. The kernel keeps 15 bytes; the rest is in the command line.", "sshd", default=...
    )
    expect: Annotated[
        Annotated[Number[Score] | Map[Expected], BY_KIND] | None,
        Takes(f"{SCORE}, or {{oom_score_adj: N, rule: RULE, refused: TEXT}}", (int,)),
    ] = key(
        "What the policy should do with it. Without it, the process is only there for others.",
        -900,
        {"oom_score_adj": 0, "refused": "could give any program this name"},
    )
    cmdline: Annotated[
        Annotated[Word[_Text] | Listed[list[_Text]], BY_KIND] | None,
        Takes("a command line, or a list of arguments", (str,), "an argument"),
    ] = key(
        "Its arguments. A text is split at spaces. Default: the name.",
        "java -jar /srv/jenkins.war",
        ["sshd:", "/usr/sbin/sshd -D [listener]"],
    )
    exe: _Path | None = key(
        "The path of its executable: the file of that path on the host, unless it ends in ' (deleted)'. "
        "Without it, oomguard cannot read it, as without CAP_SYS_PTRACE.",
        "/usr/sbin/sshd",
    )
    user: _User | None = key("Its real user. Default: root.", "postgres", 1000)
    saved_user: _User | None = key("Its saved user, if that is another: it can become that one.", "root")
    dynamic_user: Flag = key("Whether systemd allocated its uid (DynamicUser=).", True, default=False)
    unit: _Unit | None = key(
        "Its system unit. A scope session-N is its user's; others are below system.slice.",
        "ssh.service",
        "session-3.scope",
    )
    user_unit: _Unit | None = key("Its unit in the service manager of its user.", "app-firefox-12.scope")
    cgroup: _Path | None = key("Its cgroup path, instead of the units.", "/system.slice/docker-4f53a1.scope")
    delegated: Flag | None = key(
        "Whether a user may create cgroups beside its own. Default: only below a user's service manager.",
        True,
    )
    container: Flag = key("Whether it is in a container.", True, default=False)
    sandbox: Flag = key(
        "Whether it is in a PID namespace that is no container, such as Flatpak's.", True, default=False
    )
    user_namespace: Flag = key(
        "Whether it is in a user namespace, where root is not the host's.", True, default=False
    )
    pid: Annotated[int | None, Takes(f"an integer from 2 to {PID_MAX}", (int,))] = key(
        "Its pid. Default: any.", 812, ge=2, le=PID_MAX
    )
    parent: Annotated[
        _NameOrNumber | None, Takes("the name or pid of another process of the case", (str, int))
    ] = key(
        "The process that started it, after the policy was applied to that one, if this one has no "
        "oom_score_adj. Default: init.",
        *("sshd", 812),
    )
    oom_score_adj: Score | None = key(
        "Its value before the policy is applied. Default: what it inherits from its parent.", 0
    )
    original: Score | None = key("Its value before oomguard set the one it has, under an earlier policy.", 0)


class ExpectedSysctl(Something):
    """What a sysctl should be, and why the policy's value is refused."""

    value: _Integer | None = key("The value that the sysctl has under the policy.", 10)
    refused: Annotated[_Text | None, _REASON] = key(
        "A part of the reason why oomguard refuses to set it.", "CommitLimit would be 6.0 GiB"
    )


_ExpectedSysctl = Annotated[
    Annotated[Number[int] | Map[ExpectedSysctl], BY_KIND] | None,
    Takes("an integer, or {value: N, refused: TEXT}", (int,)),
]


def _section(prefix: str, kind: Any, what: str, base: type[Language] = Language) -> Any:
    """Make the model of `vm:` or `kernel:`, with a value of one kind for each sysctl."""
    knobs: dict[str, Any] = {
        row.name.removeprefix(prefix): (kind, key(f"{row.summary}.", row.low))
        for row in SYSCTLS.values()
        if row.name.startswith(prefix)
    }
    title = f"{what}{prefix.rstrip('.').title()}"
    return create_model(title, __base__=base, __doc__=f"{what} {prefix}* sysctls.", **knobs)


if TYPE_CHECKING:
    ExpectedVm: TypeAlias = Language
    ExpectedKernel: TypeAlias = Language
    CurrentVm: TypeAlias = Language
    CurrentKernel: TypeAlias = Language
else:
    ExpectedVm = _section("vm.", _ExpectedSysctl, "Expected", Something)
    ExpectedKernel = _section("kernel.", _ExpectedSysctl, "Expected", Something)
    CurrentVm = _section("vm.", _Integer | None, "Current")
    CurrentKernel = _section("kernel.", _Integer | None, "Current")

_SECTION = sysctls("swappiness: 10")
_SECTIONS = Takes("a mapping with vm and kernel")


class Sysctls(Language):
    """The sysctls before the policy is applied."""

    vm: Annotated[CurrentVm | None, _SECTION] = key("Current vm.* sysctls.", {"swappiness": 60})
    kernel: Annotated[CurrentKernel | None, _SECTION] = key("Current kernel.* sysctls.", {"panic": 0})


class Expectation(Something):
    """The sysctls after the policy is applied."""

    vm: Annotated[ExpectedVm | None, _SECTION] = key("Expected vm.* sysctls.", {"swappiness": 10})
    kernel: Annotated[ExpectedKernel | None, _SECTION] = key("Expected kernel.* sysctls.", {"panic": 10})


class Host(Language):
    """The host that a case takes place on."""

    memory: _Size | None = key("RAM (MemTotal). Default: 16GiB.", "64GiB")
    swap: _Swap | None = key("Swap (SwapTotal). Default: none.", "8GiB", "none")
    available: _Size | None = key("Memory available without swapping (MemAvailable). Default: all.", "4GiB")
    committed: _Size | None = key("Memory promised (Committed_AS). Default: 0KiB.", "5GiB")
    huge_pages: _Size | None = key(
        "Memory in huge pages of other sizes than nr_hugepages counts. Default: 0KiB.", "2GiB"
    )
    kernel: _Release | None = key("Release of the kernel; it has all sysctls if that is not given.", "6.12.0")
    hostname: Annotated[_Text | None, Takes("a host name", (str,))] = key(
        "Name of the host. Default: localhost.", "db-1"
    )
    container: Flag | None = key("Whether oomguard itself runs in a container. Default: false.", False)
    sysctls: Annotated[Sysctls | None, _SECTIONS] = key(
        "Sysctls before the policy is applied. Others have the kernel's default, or 0.",
        {"vm": {"max_map_count": 1048576}},
    )


_Policy = Annotated[
    Annotated[Word[_Text] | Map[Document], BY_KIND] | None,
    Takes("the path of a policy file, or a policy", (str,)),
]
_Users = Annotated[
    dict[str, Uid] | None,
    Takes(
        "a mapping of user names and uids",
        (int,),
        f"a uid from 0 to {UID_MAX}",
        hint="write one per line: alice: 1000",
    ),
]


class Case(Language):
    """One case: processes and a host, and what the policy should do."""

    case: Annotated[_Text, Takes("a sentence", (str,))] = key(
        "What it shows, in a sentence.", "the sessions of sshd are not protected", default=...
    )
    policy: _Policy = key("The policy of this case, instead of the file's.", "web.yaml")
    host: Host | None = key("What differs from the host of the file.", {"memory": "64GiB"})
    processes: Annotated[
        list[CaseProcess] | None,
        Takes(
            "a list of processes",
            each="a process: its facts and what to expect",
            hint="start each with '- ', as in '- name: sshd'",
        ),
    ] = key("The processes. Parents are examined before their children.", [{"name": "sshd", "expect": -900}])
    expect: Annotated[Expectation | None, _SECTIONS] = key(
        "The sysctls that the policy should lead to.", {"vm": {"swappiness": 10}}
    )


class CaseFile(Language):
    """A whole case file."""

    policy: _Policy = key(
        "The policy to test: a path relative to this file, read with its drop-ins; a folder that stands for "
        "/, with all layers below it; or a whole policy. --policy replaces it.",
        "oomguard.yaml",
        {"rules": [{"name": "haproxy", "oom_score_adj": -500}]},
    )
    host: Host | None = key("The host of all cases.", {"memory": "64GiB", "swap": "none"})
    users: _Users = key("Uids of users. Others get a uid below 1000, as services have.", {"alice": 1000})
    cases: Annotated[
        list[Case],
        Field(min_length=1),
        Takes(
            "a list of cases", each="a case", hint="start each with '- ', as in '- case: sshd is protected'"
        ),
    ] = key("The cases.", [{"case": "sshd is protected", "processes": []}], default=...)
