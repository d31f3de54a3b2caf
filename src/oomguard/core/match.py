"""Which rule matches a process: the first whose conditions are all met.

A process name reaches its rules through a memo in front of an index, so the cost of a process that
no rule names does not grow with the policy. Rules without names are filed by user and unit, and what they
came to for a user and cgroup is remembered. Conditions are tried from cheap to expensive, since each may
cost a system call, and stop at the first that fails. The command line comes last, because its owner can
delay a reader.
"""

import fnmatch
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import cache
from itertools import chain
from operator import attrgetter

from oomguard.core.cgroup import system_unit, user_unit
from oomguard.core.name_index import NameIndex
from oomguard.core.name_regex import NameRegexes, is_regex, text_of
from oomguard.core.process import COMM_LENGTH, DELETED, Facts, UnknownFactError, full_name
from oomguard.core.rule import CONDITIONS, Rule, Terms, Value
from oomguard.core.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import TypeVar

    _F = TypeVar("_F", bound=Facts)
    Search = Callable[[re.Pattern[str], str, _F], bool]

_MEMO_LIMIT = 2048
"""Names remembered before the memo is cleared: enough for any host, bounded against hostile users."""

_WORDS_LIMIT, _ENTRY_WORDS = 65_536, 32
"""Words of 8 bytes in the memos, 0.5 MiB; and those of a rule, or of a cgroup without its path."""

_changeable = attrgetter(*(row.field for row in CONDITIONS if row.can_change))
"""Returns the conditions of a rule that can change while a process has its name."""
_NO_CHANGEABLE = _changeable(Terms(Value("keep")))

_MANY = 16
"""With more candidates than this, the command line is read first, because it rules most of them out."""

_is_exact = re.compile(rb"(?!\0)[^*?\[]*").fullmatch
"""Returns whether a name is compared literally; a regular expression begins with NUL."""

_CUT = "".join(map(chr, range(0xDC80, 0xDD00)))
"""What `surrogateescape` makes of bytes that are not UTF-8."""


def is_glob(pattern: str | bytes) -> bool:
    """Return whether a pattern has a wildcard; without one it is compared literally."""
    if isinstance(pattern, str):
        return "*" in pattern or "?" in pattern or "[" in pattern
    return b"*" in pattern or b"?" in pattern or b"[" in pattern


def search(pattern: re.Pattern[str], text: str, _process: Facts) -> bool:
    """Return whether a pattern of a rule is found in the command line of a process."""
    return pattern.search(text) is not None


class Matcher:
    """The rules of a policy, indexed. `matches` finds those that match a process."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        _glob.cache_clear()  # of the policy before
        _regex.cache_clear()
        self._rules = rules
        self._memo: dict[bytes | tuple[bytes, bool, bool], tuple[Rule, ...]] = {}
        self._named: dict[int, Rule] = {}
        """By index, the rules in these lists: a table makes a new one each time."""
        self._words = 0
        """What the memos take."""
        self._globbed: dict[bytes, list[tuple[int, re.Pattern[str]]]] = {}
        """Globs by the text before their first wildcard: the index of the rule, and the pattern."""
        self._names = NameIndex()
        """Of exact names, as much as the kernel keeps of each."""
        regexes: dict[bytes, list[int]] = {}
        cmdlines: dict[tuple[str, ...], None] = {}
        nameless: list[Rule] = []
        self.has_titles = False
        """Whether a rule has both names and command lines: a process with the name may come to match."""
        for place, rule in enumerate(rules):
            if rule.terms.cmdlines:
                cmdlines[rule.terms.cmdlines] = None
                self.has_titles |= bool(rule.names)
            if rule.names:
                self._index(place, rule.names, regexes)
            else:
                nameless.append(rule)
        self._names.build()
        _share_regexes(list(regexes))
        self._regexes = _regexes if regexes else None
        self._regex_places = tuple(regexes.values())
        self._file_nameless(nameless)
        for listed in cmdlines:
            _regex(listed)  # now: compiling a hundred takes longer than the limit for matching one process
        self._any_cmdline = _regex(tuple(chain.from_iterable(cmdlines))) if len(cmdlines) > _MANY else None
        """All patterns in one, if there are many: most processes match none."""

    def _index(self, place: int, names: tuple[bytes, ...], regexes: dict[bytes, list[int]]) -> None:
        """Index a rule by its names; its expressions go to `regexes`."""
        for name in names:
            if _is_exact(name):
                self._names.add(name[:COMM_LENGTH], place)
            elif is_regex(name):
                regexes.setdefault(name, []).append(place)
            else:
                pattern = re.compile(fnmatch.translate(_text(name)))
                self._globbed.setdefault(_before_wildcard(name), []).append((place, pattern))

    def _file_nameless(self, nameless: list[Rule]) -> None:
        """Index the rules without names."""
        self._filed: dict[int | str, list[Rule]] = {}
        """By their exact users or units."""
        self._unfiled: list[Rule] = []
        """Those with a pattern on the unit or cgroup, or a range of users."""
        self._somewhere: dict[tuple[int, str], tuple[Rule, ...]] = {}
        """By user and cgroup, those that these do not exclude."""
        self._nameless = tuple(nameless)
        self._anywhere = tuple([rule for rule in nameless if not _has_place(rule.terms)])
        self._wordless = tuple([rule for rule in self._anywhere if not rule.terms.cmdlines])
        self._placed = tuple([rule for rule in nameless if _has_place(rule.terms)])
        self._needs_cgroup = any(
            rule.terms.units or rule.terms.user_units or rule.terms.cgroups for rule in self._placed
        )
        for rule in self._placed:
            self._file(rule)

    def _file(self, rule: Rule) -> None:
        """Index a rule without names by its users or units, if it has exact ones."""
        terms = rule.terms
        keys: tuple[int | str, ...] = terms.uids if terms.users and not terms.subuids else ()
        if not keys and not any(map(is_glob, terms.units)):
            keys = terms.units
        if not keys:
            self._unfiled.append(rule)
        for key in keys:
            self._filed.setdefault(key, []).append(rule)

    def forget(self) -> None:
        """Drop the memos; they fill again."""
        self._memo.clear()
        self._named.clear()
        self._somewhere.clear()
        self._words = 0

    def candidates(self, comm: bytes) -> tuple[Rule, ...]:
        """Return the rules whose `name` may match a process called `comm`, in policy order."""
        known = self._memo.get(comm)
        if known is None:
            known = self._remember(comm, self._named_in(comm, comm), self._nameless)
        return known

    def _likely(self, process: "_F", search: "Search[_F]", *, is_many: bool) -> tuple[Rule, ...]:
        """Return the candidates that the user, the cgroup and the command line do not exclude.

        The command line is read only if there are many.
        """
        comm = whole = process.comm
        is_whole, is_any = len(comm) < COMM_LENGTH, True
        if is_many and (not is_whole or self._any_cmdline is not None):
            with suppress(UnknownFactError):
                whole = full_name(comm, process.arguments)
                text = _text(b" ".join(process.arguments))
                is_any = self._any_cmdline is None or search(self._any_cmdline, text, process)
                is_whole = True
        key = whole, is_whole, is_any
        known = self._memo.get(key)
        if known is None:
            places = self._named_in(comm, whole, is_whole=is_whole)
            if not is_any:
                places = {place for place in places if not self._rules[place].terms.cmdlines}
            known = self._remember(key, places, self._anywhere if is_any else self._wordless)
        here = self._here(process)
        return tuple(sorted((*known, *here))) if here else known

    def _here(self, process: Facts) -> tuple[Rule, ...]:
        """Return the rules without names that the user and the cgroup of a process do not exclude."""
        if not self._placed:
            return ()
        try:
            key = process.uid, process.cgroup if self._needs_cgroup else ""
        except UnknownFactError:
            return self._placed
        known = self._somewhere.get(key)
        if known is None:
            uid, cgroup = key
            rules = {*self._filed.get(uid, ()), *self._filed.get(system_unit(cgroup), ())}
            rules.update(rule for rule in self._unfiled if _place_unmet(rule.terms, process) is None)
            self._make_room()
            self._somewhere[key] = known = tuple(sorted(rules))
            self._words += len(known) + _ENTRY_WORDS + len(cgroup) // 2  # a character takes up to 4 bytes
        return known

    def _make_room(self) -> None:
        if len(self._memo) >= _MEMO_LIMIT or self._words >= _WORDS_LIMIT:
            self.forget()

    def _remember(
        self,
        key: bytes | tuple[bytes, bool, bool],
        places: set[int],
        nameless: tuple[Rule, ...],
    ) -> tuple[Rule, ...]:
        """Return the rules with these indexes and the `nameless` ones, whose list most names share."""
        self._make_room()
        found = nameless
        if places:
            new = {at: self._rules[at] for at in places if at not in self._named}
            self._named |= new
            found = tuple(sorted([*nameless, *(self._named[at] for at in places)]))
            self._words += len(found) + _ENTRY_WORDS * len(new)
        self._memo[key] = found
        return found

    def _named_in(self, comm: bytes, whole: bytes, *, is_whole: bool = False) -> set[int]:
        """Return the indexes of the rules that may name a process, or that do if its whole name is known."""
        places = {  # an exact name may be cut by the kernel
            place
            for place in self._names.find(comm)
            for name in self._rules[place].names
            if name[:COMM_LENGTH] == comm and (not is_whole or name in (comm, whole))
        }
        if not self._globbed and self._regexes is None:
            return places
        is_cut = len(comm) >= COMM_LENGTH and not is_whole
        short = _text(comm)
        long = short if whole == comm else _text(whole)
        if self._regexes is not None:
            held = self._regexes.possible(_begin(comm)) if is_cut else self._regexes.found(short)
            if long is not short:
                held |= self._regexes.found(long)
            for number in held:
                places.update(self._regex_places[number])
        for length in range(len(comm) + 1 if self._globbed else 0):
            for place, glob in self._globbed.get(comm[:length], ()):
                if is_cut or glob.match(short) or glob.match(long):
                    places.add(place)
        return places

    def is_decided_by_name(self, comm: bytes) -> bool:
        """Return whether the same rule matches a process with this name for as long as it lives.

        True if no rule that may match has a condition that can change meanwhile. No runtime moves a running
        process into a container.
        """
        return len(comm) < COMM_LENGTH and all(
            rule.terms.scope == "all" and _changeable(rule.terms) == _NO_CHANGEABLE
            for rule in self.candidates(comm)
        )

    def may_come_to_match(self, process: Facts, matched: Rule | None) -> bool:
        """Return whether a child of the process could match a rule by rewriting its command line.

        A program that forks and then rewrites its command line, such as Chromium's zygote for each tab,
        causes only a fork event.
        """
        for place in self._named_in(process.comm, process.comm):
            rule = self._rules[place]
            if rule != matched and rule.terms.cmdlines and _may_be_met(rule, process):
                return True
        return False

    def matches(
        self,
        process: "_F",
        candidates: tuple[Rule, ...],
        search: "Search[_F]" = search,
        is_topmost: "Callable[[Rule, _F], bool]" = lambda _rule, _process: True,
    ) -> Iterator[tuple[Rule, UnknownFactError | None]]:
        """Yield those of the `candidates` that match, and those that cannot be tried, with the reason.

        `is_topmost` returns whether no ancestor of the process matches the rule; it is called last, and only
        for `scope: main`. `search` may raise UnknownFactError, as the process's facts may.
        """
        is_many = len(candidates) > _MANY
        if is_many or self._placed:
            candidates = self._likely(process, search, is_many=is_many)
        for rule in candidates:
            try:
                if (
                    quick_unmet(rule, process) is None
                    and slow_unmet(rule, process, search) is None
                    and (rule.terms.scope == "all" or is_topmost(rule, process))
                ):
                    yield rule, None
            except UnknownFactError as error:
                yield rule, error


def first_unmet(rule: Rule, process: "_F", search: "Search[_F]" = search) -> str | None:
    """Return the first condition of `rule` that `process` does not meet, by its key, or None.

    Raises UnknownFactError if the result depends on a condition that cannot be tried.
    """
    if rule.names and not _name_may_hold(rule.names, process.comm):
        return "name"
    return quick_unmet(rule, process) or slow_unmet(rule, process, search)


def quick_unmet(rule: Rule, process: Facts) -> str | None:
    """Return the first failed condition of those that the kernel answers without delay, or None.

    Not the name: a candidate has one that may hold.
    """
    terms = rule.terms
    if not terms.containers and _is_in_container(process, terms):
        return "containers"
    unmet = _place_unmet(terms, process)
    # After an upgrade, the running program's file is deleted; it is still the same program.
    if unmet is None and terms.exes and not glob_holds(terms.exes, (process.exe or "").removesuffix(DELETED)):
        return "exe"
    return unmet


def _is_in_container(process: Facts, terms: Terms) -> bool:
    """Return whether a process counts as a container's for a rule with these terms.

    If that is unknown, nobody may thereby leave a rule that raises, or meet one that protects. Only root
    chooses the unit, and `keep` changes nothing.
    """
    found, value = process.in_container, terms.value
    return not (value.raises or value.kind == "keep" or terms.units) if found is None else found


def _has_place(terms: Terms) -> bool:
    """Return whether a rule has a condition on the user or the cgroup of a process."""
    return bool(terms.users or terms.units or terms.user_units or terms.cgroups)


def _place_unmet(terms: Terms, process: Facts) -> str | None:
    """Return the first failed condition on the user or cgroup of a process, or None."""
    if terms.users and not terms.is_of_users(process.likely_uid if terms.value.raises else process.uid):
        return "user"
    if terms.units and not glob_holds(terms.units, system_unit(process.cgroup)):
        return "unit"
    if terms.user_units and not glob_holds(terms.user_units, user_unit(process.cgroup)):
        return "user_unit"
    if terms.cgroups and not glob_holds(terms.cgroups, process.cgroup):
        return "cgroup"
    return None


def _may_be_met(rule: Rule, process: Facts) -> bool:
    """Return whether all quick conditions are met, as far as that is known."""
    try:
        return quick_unmet(rule, process) is None
    except UnknownFactError:
        return True


def slow_unmet(rule: Rule, process: "_F", search: "Search[_F]" = search) -> str | None:
    """Return the first failed condition on the command line, or None.

    A name longer than the kernel keeps is one: `candidates` has decided on shorter ones.
    """
    if rule.names and len(process.comm) >= COMM_LENGTH and not name_holds(rule.names, process):
        return "name"
    cmdlines = rule.terms.cmdlines
    if cmdlines and not search(_regex(cmdlines), _text(b" ".join(process.arguments)), process):
        return "cmdline"
    return None


def _name_may_hold(patterns: tuple[bytes, ...], comm: bytes) -> bool:
    """Return whether any pattern names a process called `comm`, or may once its full name is known."""
    if len(comm) < COMM_LENGTH:
        return any(_is_called(pattern, comm) for pattern in patterns)
    return any(
        _number(pattern) in _regexes.possible(_begin(comm))
        if is_regex(pattern)
        else is_glob(pattern) or pattern.startswith(comm)
        for pattern in patterns
    )


def name_holds(patterns: tuple[bytes, ...], process: Facts) -> bool:
    """Return whether any pattern names the process.

    An exact pattern of up to 15 bytes is compared with `comm`, a longer one with the full name;
    a glob or regular expression may match either.
    """
    comm = process.comm
    whole: bytes | None = None
    for pattern in patterns:
        if len(pattern) <= COMM_LENGTH and pattern == comm:
            return True
        has_many = is_glob(pattern) or is_regex(pattern)
        if has_many and _is_called(pattern, comm):
            return True
        if len(comm) < COMM_LENGTH or not (has_many or pattern.startswith(comm)):
            continue
        if whole is None:
            whole = full_name(comm, process.arguments)
        if _is_called(pattern, whole):
            return True
    return False


def _is_called(pattern: bytes, name: bytes) -> bool:
    """Return whether a pattern matches a name."""
    if is_regex(pattern):
        return _number(pattern) in _regexes.found(_text(name))
    if is_glob(pattern):
        return _glob((_text(pattern),)).match(_text(name)) is not None
    return pattern == name


def _begin(comm: bytes) -> str:
    """Return what the kernel kept of a name, without a character that it cut."""
    return comm.decode("utf-8", "surrogateescape").rstrip(_CUT)


def _before_wildcard(glob: bytes) -> bytes:
    """Return the literal first bytes of a glob, at most as many as the kernel keeps of a name."""
    length = next(at for at, byte in enumerate(glob) if byte in b"*?[")
    return glob[: min(length, COMM_LENGTH)]


def is_called(path: str, names: tuple[bytes, ...]) -> bool:
    """Return whether any of a rule's names is the file name of `path`."""
    name = path.rpartition("/")[2].encode("utf-8", "surrogateescape")
    return any(_is_called(pattern, name) for pattern in names)


def glob_holds(patterns: tuple[str, ...], text: str) -> bool:
    """Return whether any pattern matches the whole of `text`; nothing matches an empty one."""
    return bool(text) and _glob(patterns).match(text) is not None


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


# Compiled patterns are kept by the tuple they came from: rules share their terms, so this holds one entry a
# distinct list of patterns. Each policy's matcher begins with none, and nothing is compiled twice.
@cache
def _glob(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(map(fnmatch.translate, patterns)))


@cache
def _regex(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join([f"(?:{one})" for one in patterns]))


# One automaton for all expressions on names of a policy.
_regexes = NameRegexes(())
_numbers: dict[bytes, int] = {}


def _share_regexes(patterns: list[bytes]) -> None:
    global _regexes, _numbers  # noqa: PLW0603  # rules are tried without a matcher, too
    _regexes = NameRegexes(enumerate(map(text_of, patterns)))
    _numbers = {pattern: number for number, pattern in enumerate(patterns)}


def _number(pattern: bytes) -> int:
    """Return the number of an expression in the automaton; one of another policy is added."""
    if pattern not in _numbers:
        _share_regexes([*_numbers, pattern])
    return _numbers[pattern]
