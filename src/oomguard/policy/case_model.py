"""The language of case files: tests of policies, for `oomguard test`.

The models extend those of policies: a case may have its policy written in it.
"""

from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from pydantic import ConfigDict, Discriminator, Field, Tag, create_model, model_validator
from pydantic.functional_validators import AfterValidator

from oomguard.core.sysctl import SYSCTLS
from oomguard.policy import patterns, values
from oomguard.policy.language import Language, Takes, kind_of
from oomguard.policy.model import CASES, MODELS, SCORE, UID_MAX, Document, Score

PID_MAX = 2**22
"""Where pids end (include/linux/threads.h:PID_MAX_LIMIT)."""

_Release = Annotated[str, Field(max_length=64, pattern=r"^[0-9]+\.[0-9]+([.+-].*)?$")]

_UserOrUid = Annotated[
    Annotated[str, Field(min_length=1, max_length=255), Tag("<word>")]
    | Annotated[int, Field(ge=0, le=UID_MAX), Tag("<number>")],
    Discriminator(kind_of),
]
_USER = Takes(f"a user name or a uid from 0 to {UID_MAX}", (str, int))
_Text = Annotated[str, Field(min_length=1, max_length=4096), AfterValidator(patterns.plain_text)]
_Path = Annotated[
    str, Field(max_length=4096, json_schema_extra={"pattern": "^/"}), AfterValidator(patterns.absolute)
]
_Unit = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(patterns.unit_name)]
_Swap = Annotated[
    str,
    Field(max_length=30, json_schema_extra={"pattern": f"^({values.SIZE}|none)$"}),
    AfterValidator(lambda text: values.size("0KiB" if text == "none" else text)),
]
_Size = Annotated[
    str,
    Field(max_length=30, json_schema_extra={"pattern": f"^({values.SIZE})$"}),
    AfterValidator(values.size),
]


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

    oom_score_adj: Annotated[Score | None, Takes(SCORE, (int,))] = Field(
        None, description="The value that the process has under the policy.", examples=[-900]
    )
    rule: Annotated[_Text | None, Takes("a rule as file:line or as oomguard shows it, or none", (str,))] = (
        Field(
            None,
            description="The rule that matches: FILE:LINE, or its conditions as explain shows them. none: no"
            " rule.",
            examples=["name=sshd", "oomguard.yaml:12", "none"],
        )
    )
    refused: Annotated[_Text | None, Takes("a part of the reason", (str,))] = Field(
        None,
        description="A part of the reason why oomguard refuses to protect the process.",
        examples=["uid 1000 could give any program this name"],
    )


class CaseProcess(Language):
    """A process: its facts, and what the policy should do with it."""

    name: Annotated[
        str, Field(max_length=255), AfterValidator(patterns.plain_text), Takes("a process name", (str,))
    ] = Field(
        description="Its name. The kernel keeps 15 bytes; the rest is in the command line.", examples=["sshd"]
    )
    expect: Annotated[
        Annotated[
            Annotated[Score, Tag("<number>")] | Annotated[Expected, Tag("<mapping>")], Discriminator(kind_of)
        ]
        | None,
        Takes(f"{SCORE}, or {{oom_score_adj: N, rule: RULE, refused: TEXT}}", (int,)),
    ] = Field(
        None,
        description="What the policy should do with it. Without it, the process is only there for others.",
        examples=[-900, {"oom_score_adj": 0, "refused": "could give any program this name"}],
    )
    cmdline: Annotated[
        Annotated[
            Annotated[_Text, Tag("<word>")] | Annotated[list[_Text], Tag("<list>")], Discriminator(kind_of)
        ]
        | None,
        Takes("a command line, or a list of arguments", (str,), "an argument"),
    ] = Field(
        None,
        description="Its arguments. A text is split at spaces. Default: the name.",
        examples=["java -jar /srv/jenkins.war", ["sshd:", "/usr/sbin/sshd -D [listener]"]],
    )
    exe: Annotated[_Path | None, Takes("an absolute path", (str,))] = Field(
        None,
        description="The path of its executable: the file of that path on the host, unless it ends in"
        " ' (deleted)'. Without it, oomguard cannot read it, as without CAP_SYS_PTRACE.",
        examples=["/usr/sbin/sshd"],
    )
    user: Annotated[_UserOrUid | None, _USER] = Field(
        None, description="Its real user. Default: root.", examples=["postgres", 1000]
    )
    saved_user: Annotated[_UserOrUid | None, _USER] = Field(
        None, description="Its saved user, if that is another: it can become that one.", examples=["root"]
    )
    dynamic_user: Annotated[bool, Takes("true or false", (bool,))] = Field(
        default=False, description="Whether systemd allocated its uid (DynamicUser=).", examples=[True]
    )
    unit: Annotated[_Unit | None, Takes("the name of a unit", (str,))] = Field(
        None,
        description="Its system unit. A scope session-N is its user's; others are below system.slice.",
        examples=["ssh.service", "session-3.scope"],
    )
    user_unit: Annotated[_Unit | None, Takes("the name of a unit", (str,))] = Field(
        None, description="Its unit in the service manager of its user.", examples=["app-firefox-12.scope"]
    )
    cgroup: Annotated[_Path | None, Takes("an absolute path", (str,))] = Field(
        None,
        description="Its cgroup path, instead of the units.",
        examples=["/system.slice/docker-4f53a1.scope"],
    )
    delegated: Annotated[bool | None, Takes("true or false", (bool,))] = Field(
        None,
        description="Whether a user may create cgroups beside its own. Default: only below a user's service"
        " manager.",
        examples=[True],
    )
    container: Annotated[bool, Takes("true or false", (bool,))] = Field(
        default=False, description="Whether it is in a container.", examples=[True]
    )
    sandbox: Annotated[bool, Takes("true or false", (bool,))] = Field(
        default=False,
        description="Whether it is in a PID namespace that is no container, such as Flatpak's.",
        examples=[True],
    )
    user_namespace: Annotated[bool, Takes("true or false", (bool,))] = Field(
        default=False,
        description="Whether it is in a user namespace, where root is not the host's.",
        examples=[True],
    )
    pid: Annotated[int | None, Takes(f"an integer from 2 to {PID_MAX}", (int,))] = Field(
        None, ge=2, le=PID_MAX, description="Its pid. Default: any.", examples=[812]
    )
    parent: Annotated[
        _UserOrUid | None, Takes("the name or pid of another process of the case", (str, int))
    ] = Field(None, description="The process that started it. Default: init.", examples=["sshd", 812])
    oom_score_adj: Annotated[Score | None, Takes(SCORE, (int,))] = Field(
        None,
        description="Its value before the policy is applied. Default: what it inherits from its parent.",
        examples=[0],
    )
    original: Annotated[Score | None, Takes(SCORE, (int,))] = Field(
        None,
        description="Its value before oomguard set the one it has, under an earlier policy.",
        examples=[0],
    )


class ExpectedSysctl(Something):
    """What a sysctl should be, and why the policy's value is refused."""

    value: Annotated[int | None, Takes("an integer", (int,))] = Field(
        None, description="The value that the sysctl has under the policy.", examples=[10]
    )
    refused: Annotated[_Text | None, Takes("a part of the reason", (str,))] = Field(
        None,
        description="A part of the reason why oomguard refuses to set it.",
        examples=["CommitLimit would be 6.0 GiB"],
    )


_ExpectedSysctl = Annotated[
    Annotated[
        Annotated[int, Tag("<number>")] | Annotated[ExpectedSysctl, Tag("<mapping>")], Discriminator(kind_of)
    ]
    | None,
    Takes("an integer, or {value: N, refused: TEXT}", (int,)),
]
_Current = Annotated[int | None, Takes("an integer", (int,))]


def _section(prefix: str, kind: Any, what: str, base: type[Language] = Language) -> Any:
    """Make the model of `vm:` or `kernel:`, with a value of one kind for each sysctl."""
    knobs: dict[str, Any] = {
        row.name.removeprefix(prefix): (kind, Field(None, description=f"{row.summary}.", examples=[row.low]))
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
    CurrentVm = _section("vm.", _Current, "Current")
    CurrentKernel = _section("kernel.", _Current, "Current")

_SECTION = Takes(
    "a mapping of sysctls and their values", hint="write one per line, without '- ': swappiness: 10"
)


class Sysctls(Language):
    """The sysctls before the policy is applied."""

    vm: Annotated[CurrentVm | None, _SECTION] = Field(
        None, description="Current vm.* sysctls.", examples=[{"swappiness": 60}]
    )
    kernel: Annotated[CurrentKernel | None, _SECTION] = Field(
        None, description="Current kernel.* sysctls.", examples=[{"panic": 0}]
    )


class Expectation(Something):
    """The sysctls after the policy is applied."""

    vm: Annotated[ExpectedVm | None, _SECTION] = Field(
        None, description="Expected vm.* sysctls.", examples=[{"swappiness": 10}]
    )
    kernel: Annotated[ExpectedKernel | None, _SECTION] = Field(
        None, description="Expected kernel.* sysctls.", examples=[{"panic": 10}]
    )


_SIZE = Takes("a size such as 16GiB", (str,))


class Host(Language):
    """The host that a case takes place on."""

    memory: Annotated[_Size | None, _SIZE] = Field(
        None, description="RAM (MemTotal). Default: 16GiB.", examples=["64GiB"]
    )
    swap: Annotated[_Swap | None, _SIZE] = Field(
        None, description="Swap (SwapTotal). Default: none.", examples=["8GiB", "none"]
    )
    available: Annotated[_Size | None, _SIZE] = Field(
        None, description="Memory available without swapping (MemAvailable). Default: all.", examples=["4GiB"]
    )
    committed: Annotated[_Size | None, _SIZE] = Field(
        None, description="Memory promised (Committed_AS). Default: 0KiB.", examples=["5GiB"]
    )
    huge_pages: Annotated[_Size | None, _SIZE] = Field(
        None,
        description="Memory in huge pages of other sizes than nr_hugepages counts. Default: 0KiB.",
        examples=["2GiB"],
    )
    kernel: Annotated[_Release | None, Takes("a kernel release", (str,), hint="quote it: '6.12'")] = Field(
        None,
        description="Release of the kernel; it has all sysctls if that is not given.",
        examples=["6.12.0"],
    )
    hostname: Annotated[_Text | None, Takes("a host name", (str,))] = Field(
        None, description="Name of the host. Default: localhost.", examples=["db-1"]
    )
    container: Annotated[bool | None, Takes("true or false", (bool,))] = Field(
        None, description="Whether oomguard itself runs in a container. Default: false.", examples=[False]
    )
    sysctls: Annotated[Sysctls | None, Takes("a mapping with vm and kernel")] = Field(
        None,
        description="Sysctls before the policy is applied. Others have the kernel's default, or 0.",
        examples=[{"vm": {"max_map_count": 1048576}}],
    )


_POLICY = Takes("the path of a policy file, or a policy", (str,))
_Policy = Annotated[
    Annotated[Annotated[_Text, Tag("<word>")] | Annotated[Document, Tag("<mapping>")], Discriminator(kind_of)]
    | None,
    _POLICY,
]
_USERS = Takes(
    "a mapping of user names and uids",
    (int,),
    f"a uid from 0 to {UID_MAX}",
    hint="write one per line: alice: 1000",
)
_Users = Annotated[dict[str, Annotated[int, Field(ge=0, le=UID_MAX)]] | None, _USERS]


class Case(Language):
    """One case: processes and a host, and what the policy should do."""

    case: Annotated[_Text, Takes("a sentence", (str,))] = Field(
        description="What it shows, in a sentence.", examples=["the sessions of sshd are not protected"]
    )
    policy: _Policy = Field(
        None, description="The policy of this case, instead of the file's.", examples=["web.yaml"]
    )
    host: Annotated[Host | None, Takes("a mapping with " + ", ".join(Host.model_fields))] = Field(
        None, description="What differs from the host of the file.", examples=[{"memory": "64GiB"}]
    )
    processes: Annotated[
        list[CaseProcess] | None,
        Takes(
            "a list of processes",
            each="a process: its facts and what to expect",
            hint="start each with '- ', as in '- name: sshd'",
        ),
    ] = Field(
        None,
        description="The processes. Parents are examined before their children.",
        examples=[[{"name": "sshd", "expect": -900}]],
    )
    expect: Annotated[Expectation | None, Takes("a mapping with vm and kernel")] = Field(
        None, description="The sysctls that the policy should lead to.", examples=[{"vm": {"swappiness": 10}}]
    )


class CaseFile(Language):
    """A whole case file."""

    policy: _Policy = Field(
        None,
        description="The policy to test: a path relative to this file, read with its drop-ins, or a whole"
        " policy. --policy replaces it.",
        examples=["oomguard.yaml", {"rules": [{"name": "haproxy", "oom_score_adj": -500}]}],
    )
    host: Annotated[Host | None, Takes("a mapping with " + ", ".join(Host.model_fields))] = Field(
        None, description="The host of all cases.", examples=[{"memory": "64GiB", "swap": "none"}]
    )
    users: _Users = Field(
        None,
        description="Uids of users. Others get a uid below 1000, as services have.",
        examples=[{"alice": 1000}],
    )
    cases: Annotated[
        Annotated[list[Case], Field(min_length=1)],
        Takes(
            "a list of cases", each="a case", hint="start each with '- ', as in '- case: sshd is protected'"
        ),
    ] = Field(description="The cases.", examples=[[{"case": "sshd is protected", "processes": []}]])


_HOST: dict[tuple[str, ...], type[Language]] = {
    ("host",): Host,
    ("host", "sysctls"): Sysctls,
    ("host", "sysctls", "vm"): CurrentVm,
    ("host", "sysctls", "kernel"): CurrentKernel,
}
_SHARED = {("policy", *keys): model for keys, model in MODELS.items()} | _HOST
MODELS.update({(CASES, *keys): model for keys, model in _SHARED.items()})
MODELS.update({(CASES, "cases", *keys): model for keys, model in _SHARED.items()})
MODELS.update(
    {
        (CASES,): CaseFile,
        (CASES, "cases"): Case,
        (CASES, "cases", "processes"): CaseProcess,
        (CASES, "cases", "processes", "expect"): Expected,
        (CASES, "cases", "expect"): Expectation,
        (CASES, "cases", "expect", "vm"): ExpectedVm,
        (CASES, "cases", "expect", "kernel"): ExpectedKernel,
        **{(CASES, "cases", "expect", *name.split(".", 1)): ExpectedSysctl for name in SYSCTLS},
    }
)
"""Below CASES, the models of case files."""
