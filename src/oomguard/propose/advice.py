"""Suggestions for this host's policy, as a draft with a reason for each line.

If a fact is missing, or two programs want conflicting values, it suggests nothing and notes why.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from oomguard.core.overcommit import (
    ADMIN_RESERVE,
    KBYTES,
    MODE,
    RATIO,
    STRICT,
    Memory,
    commit_limit_kib,
    usable_limit_kib,
)
from oomguard.core.overcommit import Peak as LastingPeak
from oomguard.core.sysctl import KUBELET, KUBELETS
from oomguard.core.text import kib, span
from oomguard.policy.sysctl_model import COMMIT_LIMIT
from oomguard.propose.policy_draft import Draft, DraftRule, DraftSetting, Note, Value

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
    sysctls: Mapping[str, int]
    running: Sequence[Running]
    peak: PeakSinceStart | None = None
    lasting: LastingPeak | None = None


class Software(NamedTuple):
    """A program that wants certain sysctls: its process names, what it wants, why, and the source."""

    title: str
    names: tuple[str, ...]
    wants: Mapping[str, int]
    because: str
    source: str
    argument: str = ""
    """Part of the command line, if the name is not enough."""


_RESERVE_SOURCE = "Documentation/admin-guide/sysctl/vm.rst, admin_reserve_kbytes"
_MAPS = {MAPS: 262144}
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
        KUBELETS,
        KUBELET,
        "sets this when it starts; with protectKernelDefaults it does not start with another value",
        "pkg/kubelet/cm/container_manager_linux.go",
    ),
    Software("Elasticsearch", ("java",), _MAPS, _MAPS_WHY, _MAPS_SOURCE, argument="org.elasticsearch."),
    Software("OpenSearch", ("java",), _MAPS, _MAPS_WHY, _MAPS_SOURCE, argument="org.opensearch."),
)
"""Only recommendations by the authors of a program."""


class Wish(NamedTuple):
    """A value for a sysctl, and the programs on this host that want it."""

    value: int
    by: Sequence[Software]

    @property
    def why(self) -> str:
        """The reasons of all of them."""
        return "; ".join(f"{one.title} {one.because} ({one.source})" for one in self.by)

    @property
    def sources(self) -> tuple[str, ...]:
        """Where the authors of the programs say so."""
        return tuple(f"{one.title}: {one.source}" for one in self.by)

    def as_setting(self, name: str) -> DraftSetting:
        """Return the suggestion to set a sysctl to the value."""
        return DraftSetting(name, self.value, self.why, self.sources)


def _wishes(name: str, here: Sequence[Software]) -> list[Wish]:
    found: dict[int, list[Software]] = {}
    for one in here:
        if name in one.wants:
            found.setdefault(one.wants[name], []).append(one)
    return [Wish(value, by) for value, by in found.items()]


_DEAR = "its data takes long to load again; with -500 the kernel still kills it first if it leaks"


class Protected(NamedTuple):
    """A program that the kernel should not kill first, as a rule."""

    names: tuple[str, ...]
    value: Value
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
        ("systemd-networkd", "NetworkManager", "wpa_supplicant", "dhcpcd", "dhclient", "wickedd", "iwd"),
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
        "can kill one that leaks: they set their own value with PG_OOM_ADJUST_FILE, or oomguard resets them. "
        "Add OOMPolicy=continue to its unit, or systemd stops the whole database",
        has_user=True,
    ),
    Protected(("mysqld", "mariadbd", "mongod", "etcd"), "at_most -500", _DEAR, has_user=True),
    Protected(
        ("redis-server", "valkey-server", "keydb-server"),
        "at_most -500",
        f"{_DEAR}. If its configuration sets oom-score-adj, it sets its own value and that of the child that "
        "saves: then write keep",
        has_user=True,
    ),
)


def host_document(facts: HostFacts) -> dict[str, int | str | None]:
    """Return the figures behind the findings."""
    memory, peak, lasting = facts.memory, facts.peak, facts.lasting
    return {
        "total_bytes": memory.total_kib * 1024,
        "swap_bytes": memory.swap_total_kib * 1024,
        "huge_page_bytes": memory.hugetlb_kib * 1024,
        "committed_bytes": memory.committed_kib * 1024,
        "committed_peak_bytes": None if peak is None else peak.committed_kib * 1024,
        "peak_seconds": None if peak is None else int(peak.seconds),
        "lasting_peak_bytes": None if lasting is None else lasting.committed_kib * 1024,
        "lasting_peak_day": None if lasting is None else lasting.day,
    }


def advise(facts: HostFacts) -> Draft:
    """Return the suggestions for this host."""
    here = [one for one in SOFTWARE if _runs(one, facts)]
    found = [*_overcommit(facts, here), *_panic(facts, here), *_others(facts, here), *_java(facts)]
    settings = tuple(one for one in found if isinstance(one, DraftSetting))
    notes = tuple(one for one in found if isinstance(one, Note))
    return Draft(_title(facts, here), settings, tuple(_rules(facts)), notes)


def _runs(software: Software, facts: HostFacts) -> bool:
    return any(
        one.name in software.names and software.argument in one.cmdline
        for one in facts.running
        if one.is_service or one.in_container
    )


def _title(facts: HostFacts, here: Sequence[Software]) -> str:
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


def _overcommit(facts: HostFacts, here: Sequence[Software]) -> Iterator[DraftSetting | Note]:
    wishes = _wishes(MODE, here)
    if not wishes:
        now = f"; it is {facts.sysctls[MODE]}" if MODE in facts.sysctls else ""
        why = f"no running program is known to need a certain mode{now}."
        yield Note(MODE, f"{why} The right one depends on what this host is for")
    elif len(wishes) > 1:
        conflict = ", but ".join(f"{wish.why}, so {wish.value}" for wish in sorted(wishes))
        why = f"{conflict}. One host cannot have both: move one program, or choose"
        yield Note(MODE, why, sources=tuple(source for wish in wishes for source in wish.sources))
    elif wishes[0].value == STRICT:
        yield from _strict(facts, wishes[0])
    else:
        yield wishes[0].as_setting(MODE)


def _strict(facts: HostFacts, wish: Wish) -> Iterator[DraftSetting | Note]:
    """Yield mode 2 and a limit that would have granted everything promised so far."""
    peak, now = facts.peak, facts.memory.committed_kib
    if peak is None or peak.seconds < _DAY_SECONDS:
        seen = f"its peak covers only {span(peak.seconds)}" if peak else "no daemon has measured its peak"
        yield Note(
            MODE,
            f"{wish.why}, so 2; but {kib(now)} are promised now, and {seen}. "
            "With too low a limit every allocation fails: let `oomguard run` measure for a day",
            sources=wish.sources,
        )
        return
    most, seen = peak.committed_kib, f"in {span(peak.seconds)} is {kib(peak.committed_kib)}"
    if facts.lasting is not None and facts.lasting.committed_kib > most:
        most, seen = facts.lasting.committed_kib, f"lately is {_lasting(facts.lasting)}"
    needed = max(most, now) * (100 + _HEADROOM_PERCENT) // 100
    limits = {percent: commit_limit_kib(facts.memory, {RATIO: percent}) for percent in _PERCENT}
    percent = next((one for one, limit in limits.items() if _usable(facts, limit) >= needed), None)
    if percent is None:
        yield Note(
            MODE,
            f"{wish.why}, so 2; but {kib(needed)} are needed ({_HEADROOM_PERCENT} % over the peak), and "
            f"{_PERCENT[-1]} % of RAM and the swap are {kib(max(limits.values()))}. Add swap, or "
            "promise less",
            sources=wish.sources,
        )
        return
    yield wish.as_setting(MODE)
    yield DraftSetting(
        COMMIT_LIMIT,
        f"{percent}%",
        f"CommitLimit {kib(limits[percent])}; the most that was promised {seen}, {kib(needed)} with "
        f"{_HEADROOM_PERCENT} % headroom",
    )
    yield DraftSetting(
        ADMIN_RESERVE,
        f"at_least {_RESERVE_KIB // 1024}MiB",
        f"what root needs to log in and repair a full host in mode 2 ({_RESERVE_SOURCE})",
        (f"Linux: {_RESERVE_SOURCE}",),
    )


def _lasting(peak: LastingPeak) -> str:
    return f"{kib(peak.committed_kib)} on {peak.day}"


def _usable(facts: HostFacts, limit_kib: int) -> int:
    reserve = max(facts.sysctls.get(ADMIN_RESERVE, 0), _RESERVE_KIB)
    knobs = {KBYTES: limit_kib - facts.memory.swap_total_kib, ADMIN_RESERVE: reserve}
    return usable_limit_kib(facts.memory, {**facts.sysctls, **knobs})


# What happens when memory runs out


def _panic(facts: HostFacts, here: Sequence[Software]) -> Iterator[DraftSetting | Note]:
    for name, as_it_is in ((PANIC_ON_OOM, _panic_on_oom), (PANIC, _reboot)):
        now, wishes = facts.sysctls.get(name), _wishes(name, here)
        if now is None:
            yield Note(name, "cannot be read here")
        else:
            yield wishes[0].as_setting(name) if wishes else as_it_is(now, facts)


def _panic_on_oom(now: int, _: HostFacts) -> DraftSetting | Note:
    if now == 0:
        return DraftSetting(PANIC_ON_OOM, 0, "as it is now: the kernel kills a process instead of panicking")
    why = f"it is {now}, which somebody chose: the kernel panics instead of killing, whatever the rules say"
    return Note(PANIC_ON_OOM, why)


def _reboot(now: int, facts: HostFacts) -> DraftSetting:
    if now:
        return DraftSetting(PANIC, now, "as it is now: the host reboots by itself after a panic")
    every = facts.sysctls.get(PANIC_ON_OOM)
    hangs = ", and panic_on_oom causes one whenever memory runs out" if every else ""
    return DraftSetting(PANIC, 10, f"it is 0: after a panic this host hangs{hangs}")


def _others(facts: HostFacts, here: Sequence[Software]) -> Iterator[DraftSetting]:
    for name in (PANIC_ON_OOPS, ROOT_MAXKEYS, ROOT_MAXBYTES, MAPS):
        for wish in _wishes(name, here) if name in facts.sysctls else ():
            setting = wish.as_setting(name)
            if name == MAPS:
                reason = f"it is {facts.sysctls[name]}; {wish.why}"
                setting = setting._replace(value=f"at_least {wish.value}", reason=reason)
            yield setting


def _java(facts: HostFacts) -> Iterator[Note]:
    if any(one.name == "java" for one in facts.running):
        yield Note(
            "java",
            "a JVM reserves its maximum heap at once, and what it commits counts. With overcommit_memory 2 "
            "choose -Xms and -Xmx that fit, and expect OutOfMemoryError instead of a kill",
        )


# Which processes are killed last


def _rules(facts: HostFacts) -> Iterator[DraftRule]:
    for row in PROTECTED:
        # Leave containers to their runtime, and people's programs to them.
        found = [
            one for one in facts.running if one.name in row.names and one.is_service and not one.in_container
        ]
        names = sorted({one.name for one in found})
        users = sorted({one.user for one in found})
        if not found:
            continue
        conditions: dict[str, list[str | int]] = {"name": [*names]}
        if row.has_user:
            conditions["user"] = [int(user) if user.isdecimal() else user for user in users]
        yield DraftRule(conditions, row.value, row.because, scope=row.scope)
