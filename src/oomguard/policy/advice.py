"""What this host's own figures and programs speak for, as a draft with a reason at each line.

Where a fact is missing, or two programs want what excludes each other, nothing is proposed, and it
is said why.
"""

from typing import TYPE_CHECKING, NamedTuple

from oomguard.core.commit import KBYTES, MODE, RATIO, STRICT, Memory, commit_limit_kib, kib, usable_limit_kib
from oomguard.core.sysctl import KUBELET
from oomguard.core.text import span
from oomguard.policy.draft import Draft, DraftRule, DraftSetting, Note

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from oomguard.core.commit import Peak as LastingPeak
    from oomguard.policy.draft import Value

PANIC_ON_OOM, PANIC, MAPS = "vm.panic_on_oom", "kernel.panic", "vm.max_map_count"
PANIC_ON_OOPS = "kernel.panic_on_oops"
ROOT_MAXKEYS, ROOT_MAXBYTES = "kernel.keys.root_maxkeys", "kernel.keys.root_maxbytes"

_DAY_SECONDS = 24 * 3600
"""A peak says something once it has seen a day, with its backups and its cron jobs."""
_HEADROOM_PERCENT = 20
_RATIOS = (80, 85, 90, 95)
"""Percent of RAM that may be promised, the smallest that will do; more leaves too little for the kernel."""


class Running(NamedTuple):
    """A program that runs: its whole name, whose it is, whether in a container, and its command line.

    `is_service` is whether its user is a system's, and no person, who may call any program anything.
    """

    name: str
    user: str
    is_service: bool = True
    in_container: bool = False
    cmdline: str = ""


class Peak(NamedTuple):
    """The most that a daemon saw promised, and for how long it has been looking."""

    committed_kib: int
    seconds: float


class Facts(NamedTuple):
    """What is known of a host. `sysctls` holds those that could be read.

    `lasting` is the peak of earlier days that the interlock goes by.
    """

    memory: Memory
    sysctls: "Mapping[str, int]"
    running: "Sequence[Running]"
    peak: Peak | None = None
    lasting: "LastingPeak | None" = None


class Software(NamedTuple):
    """A program that is known to want sysctls: by which names it runs, what it wants, and who says so."""

    title: str
    names: tuple[str, ...]
    wants: "Mapping[str, int]"
    because: str
    source: str
    argument: str = ""
    """Part of the command line, where the name does not tell."""


_MAPS_WHY = "refuses to start in production with less"
_MAPS_SOURCE = "bootstrap checks, maximum map count"

SOFTWARE = (
    Software(
        "Redis",
        ("redis-server", "valkey-server", "keydb-server"),
        {MODE: 1},
        "saves by fork, which promises its memory a second time; it warns of any other mode",
        "src/syscheck.c",
    ),
    Software(
        "PostgreSQL",
        ("postgres", "postmaster"),
        {MODE: 2},
        "rather gets an error than the OOM killer",
        "manual, 19.4.4 Linux Memory Overcommit",
    ),
    Software(
        "Kubernetes",
        ("kubelet", "k3s", "k3s-server", "k3s-agent", "rke2"),
        KUBELET,
        "sets this at its start, and with protectKernelDefaults refuses to start with another value",
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
"""Only what the makers of a program write themselves."""


_DEAR = "what it holds takes long to load again; -500 still lets it die before all the rest does if it leaks"


class Protected(NamedTuple):
    """A program that a host should not lose first, as a rule."""

    names: tuple[str, ...]
    value: "Value"
    because: str
    scope: str = "main"
    has_user: bool = False
    """Whether the rule names the user that it runs as here: it is not root's."""


# A program that saves the value it starts with, to give it to its children, is left alone.
PROTECTED = (
    Protected(
        ("sshd",),
        "keep",
        "the way back in: OpenSSH gives its listener -1000 itself, and each session the value it started "
        "with, so one from a rule would go to every session",
        scope="all",
    ),
    Protected(
        ("systemd-networkd", "NetworkManager", "wpa_supplicant", "dhcpcd", "dhclient"),
        "at_most -500",
        "without the network nobody gets back in",
    ),
    Protected(("systemd-logind",), "at_most -500", "without it logins hang", scope="all"),
    Protected(("systemd-journald",), "at_most -250", "or nobody reads what happened", scope="all"),
    Protected(
        ("systemd-udevd",), "at_most -900", "its unit gives it -1000, and it gives its workers 0 itself"
    ),
    Protected(
        ("dockerd",), "at_most -500", "its unit gives it that; its containers have values of their own"
    ),
    Protected(
        ("containerd", "crio"),
        "keep",
        "its unit gives it -999. Its shims read that and stay near it, so a rule's value would go to every "
        "container that is started without one of its own",
        scope="all",
    ),
    Protected(
        ("postgres", "postmaster"),
        "at_most -900",
        "if the postmaster dies, all of the database restarts; its backends stay killable, so that a leaking "
        "one is found: with PG_OOM_ADJUST_FILE they set their own value, and else get it back",
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
        f"{_DEAR}. Where its configuration sets oom-score-adj, it ranks itself and the child that saves: "
        "then write keep",
        has_user=True,
    ),
)


def advise(facts: Facts) -> Draft:
    """Return what speaks for itself on this host."""
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


def _runs(software: Software, facts: Facts) -> bool:
    return any(
        one.name in software.names and software.argument in one.cmdline
        for one in facts.running
        if one.is_service or one.in_container
    )


def _title(facts: Facts, here: "Sequence[Software]") -> str:
    memory = facts.memory
    known = ", ".join(one.title for one in here) or "nothing that is known to want a sysctl"
    peak = f"{kib(facts.peak.committed_kib)} in {span(facts.peak.seconds)}" if facts.peak else "not known"
    if facts.lasting:
        peak += f", and of earlier days {_lasting(facts.lasting)}"
    huge = f", {kib(memory.hugetlb_kib)} of it in huge pages" if memory.hugetlb_kib else ""
    return (
        "What the figures and programs of this host speak for, to be looked through.\n"
        f"RAM {kib(memory.total_kib)}{huge}, swap {kib(memory.swap_total_kib)}. Promised (Committed_AS): "
        f"{kib(memory.committed_kib)} now; its peak: {peak}.\n"
        f"Running: {known}."
    )


# How much may be promised


def _overcommit(facts: Facts, here: "Sequence[Software]") -> "Iterator[DraftSetting | Note]":
    wishes = _wishes(MODE, here)
    now = facts.sysctls.get(MODE)
    if not wishes:
        yield Note(
            MODE,
            "nothing that runs here is known to want another mode than it has"
            f"{'' if now is None else f', {now}'}; what is right depends on what this host is for",
        )
        return
    if len(wishes) > 1:
        yield Note(
            MODE,
            f"{_conflict(wishes)}. One host cannot please both: move one, or choose",
            sources=_sources(one for by in wishes.values() for one in by),
        )
        return
    (mode, by), *_ = wishes.items()
    if mode != STRICT:
        yield DraftSetting(MODE, mode, _why(by), _sources(by))
        return
    yield from _strict(facts, by)


def _strict(facts: Facts, by: "Sequence[Software]") -> "Iterator[DraftSetting | Note]":
    """Yield mode 2 and a ratio under which everything promised so far would have been granted."""
    peak = facts.peak
    if peak is None or peak.seconds < _DAY_SECONDS:
        seen = (
            "no daemon has seen its peak"
            if peak is None
            else f"its peak is known for {span(peak.seconds)} only"
        )
        yield Note(
            MODE,
            f"{_why(by)}, so 2; but {kib(facts.memory.committed_kib)} is what is promised now, and {seen}. "
            "Too low a limit fails every allocation: let `oomguard run` look for a day, and ask again",
            sources=_sources(by),
        )
        return
    lasting = facts.lasting
    is_older = lasting is not None and lasting.committed_kib > peak.committed_kib
    most = lasting.committed_kib if lasting is not None and is_older else peak.committed_kib
    needed = max(most, facts.memory.committed_kib) * (100 + _HEADROOM_PERCENT) // 100
    ratio = next((one for one in _RATIOS if _usable(facts, one) >= needed), None)
    if ratio is None:
        limit = commit_limit_kib(facts.memory, {RATIO: _RATIOS[-1]})
        yield Note(
            MODE,
            f"{_why(by)}, so 2; but {kib(needed)} are needed ({_HEADROOM_PERCENT} % over the peak), and "
            f"{_RATIOS[-1]} % of RAM and the swap are {kib(limit)}. Add swap, or promise less",
            sources=_sources(by),
        )
        return
    yield DraftSetting(MODE, STRICT, _why(by), _sources(by))
    limit = commit_limit_kib(facts.memory, {RATIO: ratio})
    yield DraftSetting(
        RATIO,
        ratio,
        f"CommitLimit {kib(limit)}; the most that was promised "
        + (
            f"lately is {_lasting(lasting)}"
            if lasting is not None and is_older
            else f"in {span(peak.seconds)} is {kib(most)}"
        )
        + f", {kib(needed)} with {_HEADROOM_PERCENT} % headroom",
    )


def _lasting(peak: "LastingPeak") -> str:
    return f"{kib(peak.committed_kib)} on {peak.day}"


def _usable(facts: Facts, ratio: int) -> int:
    return usable_limit_kib(facts.memory, {**facts.sysctls, KBYTES: 0, RATIO: ratio})


# What happens when it runs out


def _panic(facts: Facts, here: "Sequence[Software]") -> "Iterator[DraftSetting | Note]":
    for name, as_it_is in ((PANIC_ON_OOM, _panic_on_oom), (PANIC, _reboot)):
        now = facts.sysctls.get(name)
        wish = next(iter(_wishes(name, here).items()), None)
        if now is None:
            yield Note(name, "cannot be read here")
        elif wish is not None:
            yield DraftSetting(name, wish[0], _why(wish[1]), _sources(wish[1]))
        else:
            yield as_it_is(now, facts)


def _panic_on_oom(now: int, _: Facts) -> DraftSetting | Note:
    if now == 0:
        return DraftSetting(PANIC_ON_OOM, 0, "as it is: the kernel kills, and the rules below say whom")
    return Note(PANIC_ON_OOM, f"is {now}, which somebody chose: the kernel panics, and no rule counts")


def _reboot(now: int, facts: Facts) -> DraftSetting:
    if now:
        return DraftSetting(PANIC, now, "as it is: the host comes back by itself after a panic")
    every = facts.sysctls.get(PANIC_ON_OOM)
    hangs = "and panic_on_oom makes one of every shortage" if every else "whatever caused it"
    return DraftSetting(PANIC, 10, f"it is 0: after a panic this host hangs until somebody comes, {hangs}")


def _kernel(facts: Facts, here: "Sequence[Software]") -> "Iterator[DraftSetting]":
    for name in (PANIC_ON_OOPS, ROOT_MAXKEYS, ROOT_MAXBYTES):
        for value, by in _wishes(name, here).items():
            if name in facts.sysctls:
                yield DraftSetting(name, value, _why(by), _sources(by))


def _maps(facts: Facts, here: "Sequence[Software]") -> "Iterator[DraftSetting]":
    wishes = _wishes(MAPS, here)
    now = facts.sysctls.get(MAPS)
    for value, by in wishes.items():
        if now is not None and now < value:
            yield DraftSetting(MAPS, value, f"is {now}; {_why(by)}", _sources(by))


def _java(facts: Facts) -> "Iterator[Note]":
    if any(one.name == "java" for one in facts.running):
        yield Note(
            "java",
            "a JVM reserves its largest heap at once and is charged for what it commits; under "
            "overcommit_memory 2 give -Xms and -Xmx what fits, and expect OutOfMemoryError instead of a kill",
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


# Who goes last


def _rules(facts: Facts) -> "Iterator[DraftRule]":
    for row in PROTECTED:
        # A container's values are its runtime's, and what people start is theirs.
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
