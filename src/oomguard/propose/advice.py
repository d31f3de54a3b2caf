"""Suggestions for this host's policy, as a draft with a reason for each line.

If a fact is missing, or two programs want conflicting values, it suggests nothing and notes why.
"""

from typing import TYPE_CHECKING, NamedTuple

from oomguard.core.overcommit import (
    ADMIN_RESERVE,
    KBYTES,
    MODE,
    RATIO,
    STRICT,
    Memory,
    commit_limit_kib,
    kib,
    usable_limit_kib,
)
from oomguard.core.sysctl import KUBELET
from oomguard.core.text import span
from oomguard.policy.sysctl_model import COMMIT_LIMIT
from oomguard.propose.draft import Draft, DraftRule, DraftSetting, Note

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from oomguard.core.overcommit import Peak as LastingPeak
    from oomguard.propose.draft import Value

PANIC_ON_OOM, PANIC, MAPS = "vm.panic_on_oom", "kernel.panic", "vm.max_map_count"
PANIC_ON_OOPS = "kernel.panic_on_oops"
ROOT_MAXKEYS, ROOT_MAXBYTES = "kernel.keys.root_maxkeys", "kernel.keys.root_maxbytes"

_DAY_SECONDS = 24 * 3600
"""A peak counts once it covers a day, with backups and cron jobs."""
_HEADROOM_PERCENT = 20
_PERCENT = (80, 85, 90, 95)
"""Of RAM to promise, smallest first; more than 95 leaves too little for the kernel."""
_RESERVE_KIB = 128 * 1024


class Running(NamedTuple):
    """A running program: its full name, its user, whether it is in a container, and its command line.

    `is_service` is whether its user is a system user, because a person may give any program any name.
    """

    name: str
    user: str
    is_service: bool = True
    in_container: bool = False
    cmdline: str = ""


class PeakSinceStart(NamedTuple):
    """The highest Committed_AS that a daemon saw, and for how long it has been running."""

    committed_kib: int
    seconds: float


class HostFacts(NamedTuple):
    """What is known about a host.

    `sysctls` holds those that could be read. `lasting` is the peak of earlier days that the interlock uses.
    """

    memory: Memory
    sysctls: "Mapping[str, int]"
    running: "Sequence[Running]"
    peak: PeakSinceStart | None = None
    lasting: "LastingPeak | None" = None


class Software(NamedTuple):
    """A program that wants certain sysctls: its process names, what it wants, why, and the source."""

    title: str
    names: tuple[str, ...]
    wants: "Mapping[str, int]"
    because: str
    source: str
    argument: str = ""
    """Part of the command line, if the name is not enough."""


_RESERVE_SOURCE = "Documentation/admin-guide/sysctl/vm.rst, admin_reserve_kbytes"
_MAPS_WHY = "does not start in production with less"
_MAPS_SOURCE = "bootstrap checks, maximum map count"

SOFTWARE = (
    Software(
        "Redis",
        ("redis-server", "valkey-server", "keydb-server"),
        {MODE: 1},
        "saves with fork, which promises its memory a second time; it warns about any other mode",
        "src/syscheck.c",
    ),
    Software(
        "PostgreSQL",
        ("postgres", "postmaster"),
        {MODE: 2},
        "prefers an error to the OOM killer",
        "manual, 19.4.4 Linux Memory Overcommit",
    ),
    Software(
        "Kubernetes",
        ("kubelet", "k3s", "k3s-server", "k3s-agent", "rke2"),
        KUBELET,
        "sets this when it starts; with protectKernelDefaults it does not start with another value",
        "pkg/kubelet/cm/container_manager_linux.go",
    ),
    Software(
        "Elasticsearch",
        ("java",),
        {MAPS: 262144},
        _MAPS_WHY,
        _MAPS_SOURCE,
        argument="org.elasticsearch.",
    ),
    Software(
        "OpenSearch",
        ("java",),
        {MAPS: 262144},
        _MAPS_WHY,
        _MAPS_SOURCE,
        argument="org.opensearch.",
    ),
)
"""Only recommendations by the authors of a program."""


_DEAR = "its data takes long to load again; with -500 the kernel still kills it first if it leaks"


class Protected(NamedTuple):
    """A program that the kernel should not kill first, as a rule."""

    names: tuple[str, ...]
    value: "Value"
    because: str
    scope: str = "main"
    has_user: bool = False
    """Whether the rule names its user on this host, because it does not run as root."""


# Leave a program alone that passes the value it starts with on to its children.
PROTECTED = (
    Protected(
        ("sshd",),
        "keep",
        "needed to log in: OpenSSH sets its listener to -1000 itself, and passes the value it started "
        "with on to each session, so every session would get a rule's value",
        scope="all",
    ),
    Protected(
        ("systemd-networkd", "NetworkManager", "wpa_supplicant", "dhcpcd", "dhclient"),
        "at_most -500",
        "without the network nobody can log in",
    ),
    Protected(("systemd-logind",), "at_most -500", "without it logins hang", scope="all"),
    Protected(
        ("systemd-journald",), "at_most -250", "without it there is no log of what happened", scope="all"
    ),
    Protected(("systemd-udevd",), "at_most -900", "its unit sets -1000, and it sets its workers to 0 itself"),
    Protected(("dockerd",), "at_most -500", "its unit sets that; its containers have their own values"),
    Protected(
        ("containerd", "crio"),
        "keep",
        "its unit sets -999. Its shims take a value close to that, so every container that has no value of "
        "its own would get a rule's value",
        scope="all",
    ),
    Protected(
        ("postgres", "postmaster"),
        "at_most -900",
        "if the postmaster dies, the whole database restarts. Its backends stay killable, so that the kernel "
        "can kill one that leaks: they set their own value with PG_OOM_ADJUST_FILE, or oomguard resets them",
        has_user=True,
    ),
    Protected(
        ("mysqld", "mariadbd", "mongod", "etcd"),
        "at_most -500",
        _DEAR,
        has_user=True,
    ),
    Protected(
        ("redis-server", "valkey-server", "keydb-server"),
        "at_most -500",
        f"{_DEAR}. If its configuration sets oom-score-adj, it sets its own value and that of the child that "
        "saves: then write keep",
        has_user=True,
    ),
)


def advise(facts: HostFacts) -> Draft:
    """Return the suggestions for this host."""
    here = [one for one in SOFTWARE if _runs(one, facts)]
    settings: list[DraftSetting] = []
    notes: list[Note] = []
    for found in (
        *_overcommit(facts, here),
        *_panic(facts, here),
        *_kernel(facts, here),
        *_maps(facts, here),
    ):
        if isinstance(found, DraftSetting):
            settings.append(found)
        else:
            notes.append(found)
    notes += _java(facts)
    return Draft(_title(facts, here), tuple(settings), tuple(_rules(facts)), tuple(notes))


def _runs(software: Software, facts: HostFacts) -> bool:
    return any(
        one.name in software.names and software.argument in one.cmdline
        for one in facts.running
        if one.is_service or one.in_container
    )


def _title(facts: HostFacts, here: "Sequence[Software]") -> str:
    memory = facts.memory
    known = ", ".join(one.title for one in here) or "no program that is known to need a sysctl"
    peak = f"{kib(facts.peak.committed_kib)} in {span(facts.peak.seconds)}" if facts.peak else "unknown"
    if facts.lasting:
        peak += f"; the highest that lasted: {_lasting(facts.lasting)}"
    huge = f", {kib(memory.hugetlb_kib)} of it in huge pages" if memory.hugetlb_kib else ""
    return (
        "Suggestions from this host's memory use and running programs. Review them before you use them.\n"
        f"RAM {kib(memory.total_kib)}{huge}, swap {kib(memory.swap_total_kib)}. Promised (Committed_AS): "
        f"{kib(memory.committed_kib)} now; its peak: {peak}.\n"
        f"Running: {known}."
    )


# How much may be promised


def _overcommit(facts: HostFacts, here: "Sequence[Software]") -> "Iterator[DraftSetting | Note]":
    wishes = _wishes(MODE, here)
    now = facts.sysctls.get(MODE)
    if not wishes:
        yield Note(
            MODE,
            "no running program is known to need a certain mode"
            f"{'' if now is None else f'; it is {now}'}. The right one depends on what this host is for",
        )
        return
    if len(wishes) > 1:
        yield Note(
            MODE,
            f"{_conflict(wishes)}. One host cannot have both: move one program, or choose",
            sources=_sources(one for by in wishes.values() for one in by),
        )
        return
    (mode, by), *_ = wishes.items()
    if mode != STRICT:
        yield DraftSetting(MODE, mode, _why(by), _sources(by))
        return
    yield from _strict(facts, by)


def _strict(facts: HostFacts, by: "Sequence[Software]") -> "Iterator[DraftSetting | Note]":
    """Yield mode 2 and a limit that would have granted everything promised so far."""
    peak = facts.peak
    if peak is None or peak.seconds < _DAY_SECONDS:
        seen = (
            "no daemon has measured its peak"
            if peak is None
            else f"its peak covers only {span(peak.seconds)}"
        )
        yield Note(
            MODE,
            f"{_why(by)}, so 2; but {kib(facts.memory.committed_kib)} are promised now, and {seen}. "
            "With too low a limit every allocation fails: let `oomguard run` measure for a day",
            sources=_sources(by),
        )
        return
    lasting = facts.lasting
    is_older = lasting is not None and lasting.committed_kib > peak.committed_kib
    most = lasting.committed_kib if lasting is not None and is_older else peak.committed_kib
    needed = max(most, facts.memory.committed_kib) * (100 + _HEADROOM_PERCENT) // 100
    limits = ((percent, commit_limit_kib(facts.memory, {RATIO: percent})) for percent in _PERCENT)
    percent, limit = next((one for one in limits if _usable(facts, one[1]) >= needed), (0, 0))
    if not percent:
        most = commit_limit_kib(facts.memory, {RATIO: _PERCENT[-1]})
        yield Note(
            MODE,
            f"{_why(by)}, so 2; but {kib(needed)} are needed ({_HEADROOM_PERCENT} % over the peak), and "
            f"{_PERCENT[-1]} % of RAM and the swap are {kib(most)}. Add swap, or promise less",
            sources=_sources(by),
        )
        return
    yield DraftSetting(MODE, STRICT, _why(by), _sources(by))
    yield DraftSetting(
        COMMIT_LIMIT,
        f"{percent}%",
        f"CommitLimit {kib(limit)}; the most that was promised "
        + (
            f"lately is {_lasting(lasting)}"
            if lasting is not None and is_older
            else f"in {span(peak.seconds)} is {kib(most)}"
        )
        + f", {kib(needed)} with {_HEADROOM_PERCENT} % headroom",
    )
    yield DraftSetting(
        ADMIN_RESERVE,
        f"at_least {_RESERVE_KIB // 1024}MiB",
        f"what root needs to log in and repair a full host in mode 2 ({_RESERVE_SOURCE})",
        (f"Linux: {_RESERVE_SOURCE}",),
    )


def _lasting(peak: "LastingPeak") -> str:
    return f"{kib(peak.committed_kib)} on {peak.day}"


def _usable(facts: HostFacts, limit_kib: int) -> int:
    reserve = max(facts.sysctls.get(ADMIN_RESERVE, 0), _RESERVE_KIB)
    knobs = {KBYTES: limit_kib - facts.memory.swap_total_kib, ADMIN_RESERVE: reserve}
    return usable_limit_kib(facts.memory, {**facts.sysctls, **knobs})


# What happens when memory runs out


def _panic(facts: HostFacts, here: "Sequence[Software]") -> "Iterator[DraftSetting | Note]":
    for name, as_it_is in ((PANIC_ON_OOM, _panic_on_oom), (PANIC, _reboot)):
        now = facts.sysctls.get(name)
        wish = next(iter(_wishes(name, here).items()), None)
        if now is None:
            yield Note(name, "cannot be read here")
        elif wish is not None:
            yield DraftSetting(name, wish[0], _why(wish[1]), _sources(wish[1]))
        else:
            yield as_it_is(now, facts)


def _panic_on_oom(now: int, _: HostFacts) -> DraftSetting | Note:
    if now == 0:
        return DraftSetting(
            PANIC_ON_OOM, 0, "as it is now: the kernel kills a process, and the rules below decide which"
        )
    return Note(
        PANIC_ON_OOM,
        f"it is {now}, which somebody chose: the kernel panics instead of killing, whatever the rules say",
    )


def _reboot(now: int, facts: HostFacts) -> DraftSetting:
    if now:
        return DraftSetting(PANIC, now, "as it is now: the host reboots by itself after a panic")
    every = facts.sysctls.get(PANIC_ON_OOM)
    hangs = ", and panic_on_oom causes one whenever memory runs out" if every else ""
    return DraftSetting(PANIC, 10, f"it is 0: after a panic this host hangs{hangs}")


def _kernel(facts: HostFacts, here: "Sequence[Software]") -> "Iterator[DraftSetting]":
    for name in (PANIC_ON_OOPS, ROOT_MAXKEYS, ROOT_MAXBYTES):
        for value, by in _wishes(name, here).items():
            if name in facts.sysctls:
                yield DraftSetting(name, value, _why(by), _sources(by))


def _maps(facts: HostFacts, here: "Sequence[Software]") -> "Iterator[DraftSetting]":
    now = facts.sysctls.get(MAPS)
    for value, by in _wishes(MAPS, here).items():
        if now is not None:
            yield DraftSetting(MAPS, f"at_least {value}", f"it is {now}; {_why(by)}", _sources(by))


def _java(facts: HostFacts) -> "Iterator[Note]":
    if any(one.name == "java" for one in facts.running):
        yield Note(
            "java",
            "a JVM reserves its maximum heap at once, and what it commits counts. With overcommit_memory 2 "
            "choose -Xms and -Xmx that fit, and expect OutOfMemoryError instead of a kill",
        )


def _wishes(name: str, here: "Sequence[Software]") -> dict[int, list[Software]]:
    found: dict[int, list[Software]] = {}
    for one in here:
        if name in one.wants:
            found.setdefault(one.wants[name], []).append(one)
    return found


def _why(by: "Sequence[Software]") -> str:
    return "; ".join(f"{one.title} {one.because} ({one.source})" for one in by)


def _sources(by: "Iterable[Software]") -> tuple[str, ...]:
    return tuple(f"{one.title}: {one.source}" for one in by)


def _conflict(wishes: "Mapping[int, Sequence[Software]]") -> str:
    return ", but ".join(f"{_why(by)}, so {value}" for value, by in sorted(wishes.items()))


# Which processes are killed last


def _rules(facts: HostFacts) -> "Iterator[DraftRule]":
    for row in PROTECTED:
        # Leave containers to their runtime, and people's programs to them.
        found = [
            one for one in facts.running if one.name in row.names and one.is_service and not one.in_container
        ]
        names = sorted({one.name for one in found})
        users = sorted({one.user for one in found if one.user})
        if not found:
            continue
        conditions: dict[str, list[str | int]] = {"name": [*names]}
        if row.has_user and users:
            conditions["user"] = [int(user) if user.isdecimal() else user for user in users]
        yield DraftRule(conditions, row.value, row.because, scope=row.scope)
