"""The compiled policy: desired sysctls and an ordered list of rules."""

import shlex
from collections.abc import Iterable, Sequence
from stat import S_ISCHR

from oomguard.core.rule import Rule, Terms, bounded
from oomguard.core.rule_table import RuleTable
from oomguard.core.sysctl import SYSCTLS
from oomguard.core.text import counted, printable
from oomguard.core.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from oomguard.core.choices import SysctlKind

DEFAULT_PATH = "/etc/oomguard.yaml"
"""The policy of a host."""

_SHOWN_FILES = 8

_BELOW = ("/run/oomguard.d", "/usr/lib/oomguard.d")
"""Folders that only the policy of a host has: until the next boot, and as installed."""

_NULL_DEVICE = 0x103
"""The device number of /dev/null: major 1, minor 3."""

USERS_FILE = "/etc/passwd"
SUBUID_FILE = "/etc/subuid"
LOGIN_DEFS = ("/etc/login.defs", "/usr/etc/login.defs")
"""The administrator's file, then the vendor's."""
USER_FILES = (USERS_FILE, SUBUID_FILE, *LOGIN_DEFS)
"""What users there are, and which of them are people."""

FIRST_PERSON_UID = 1000
"""The lowest uid of a human user on most hosts (UID_MIN of login.defs(5), and systemd's UIDS-GIDS)."""


class SysctlSetting(NamedTuple):
    """A sysctl by its full name (`vm.swappiness`), its value in the policy, and the line that sets it.

    The value is exact, or the `kind` of bound that leaves a value beyond it alone. `said` is the value as the
    policy has it, if not this number: `3 % of 62.7 GiB`.
    """

    name: str
    value: int
    file: str
    line: int
    kind: "SysctlKind" = "exact"
    said: str = ""

    @property
    def source(self) -> str:
        """Where the setting was written, as `file:line`."""
        return f"{self.file}:{self.line}"

    @property
    def meaning(self) -> str:
        """The value in the policy and on this host: `vm.min_free_kbytes 3 % of 64.0 GiB = 2013265 kB`."""
        unit = SYSCTLS[self.name].unit
        number = f"{self.value} {unit.removesuffix('s') if self.value == 1 else unit}".rstrip()
        return f"{self.name} {self.said}" + ("" if number in self.said else f" = {number}")

    def wanted(self, own: int) -> int:
        """Return the value that the sysctl should have, if it has `own` without oomguard."""
        return bounded(self.kind, self.value, own)


class PressureLimit(NamedTuple):
    """The pressure at which to warn: how much of a time some task stalls for memory. 0 percent: never."""

    some_percent: int = 10
    over_seconds: int = 2


class LeftOut(NamedTuple):
    """A policy file that does not count on this host, and why."""

    file: str
    why: str

    def __str__(self) -> str:
        return f"{printable(self.file)} does not count: {self.why}"


class Policy(NamedTuple):
    """What the policy files declare, validated and compiled."""

    sysctls: tuple[SysctlSetting, ...] = ()
    rules: Sequence[Rule] = ()
    commit_headroom_percent: int = 10
    force: bool = False
    resync_interval_seconds: int = 60
    pressure: PressureLimit = PressureLimit()
    recorder: bool = True
    """Whether to record what holds memory."""
    path: str = ""
    """The file that was asked for, even if it does not count here, or `-`; "" for a policy within a file."""
    files: tuple[str, ...] = ()
    """Those that count here, the others are in `left_out`."""
    digest: str = ""
    """SHA-256 over the policy files, in hexadecimal."""
    warnings: int = 0
    """How many warnings `oomguard check --host` would print."""
    first_person_uid: int = FIRST_PERSON_UID
    """On the host where the policy was read, lower uids belong to services."""
    facts: dict[str, int | str | bool] = {}  # noqa: RUF012  # never changed
    """The facts of the host that it depends on, as they were when it was read: fields of `core.host.Host`."""
    left_out: tuple[LeftOut, ...] = ()
    """The files whose `when:` does not fit the host."""
    unresolved: int = 0
    """How many sysctls depend on the host, if it was read for none."""

    @property
    def terms(self) -> Iterable[Terms]:
        """All terms of its rules. Going through 15,000 rules takes a tenth of the time of a start."""
        return self.rules.terms if isinstance(self.rules, RuleTable) else [rule.terms for rule in self.rules]

    @property
    def summary(self) -> str:
        """How much it declares: `2 rules and 1 sysctl`."""
        return (
            f"{counted(len(self.rules), 'rule')} and {counted(len(self.sysctls) + self.unresolved, 'sysctl')}"
        )

    @property
    def skipped(self) -> str:
        """What a host skips because facts are not known, "" if nothing."""
        sysctls = counted(self.unresolved, "sysctl")
        return f"{sysctls} skipped: without meminfo in /proc, RAM is not known" if self.unresolved else ""

    @property
    def origin(self) -> str:
        """What it declares, in which files and not in which, and how many warnings there are."""
        parts = [f"{self.summary} from {some_files([*map(printable, self.files)])}"]
        parts += [str(one) for one in self.left_out[:_SHOWN_FILES]]
        if self.warnings:
            check = f"oomguard check --host{policy_option(self.path)}"
            parts.append(f"{counted(self.warnings, 'warning')}: see `{check}`")
        return "; ".join(parts)


def policy_option(path: str) -> str:
    """Return the option with which a verb reads this policy: ` --policy FILE`, "" for the host's, or none."""
    return "" if path in ("", DEFAULT_PATH) else f" --policy {shlex.quote(printable(path))}"


def some_files(files: Sequence[str], limit: int = _SHOWN_FILES) -> str:
    """Return the first files by name: `/etc/oomguard.yaml, /a.yaml and 2 more`."""
    shown = ", ".join(files[:limit]) or "no file"
    return f"{shown} and {len(files) - limit:,} more" if len(files) > limit else shown


class Emptied(NamedTuple):
    """A policy file that no longer declares anything, and what it declared."""

    file: str
    rules: frozenset[int]
    """The rules, by their numbers in the previous policy."""
    sysctls: int

    @property
    def summary(self) -> str:
        """What it declared: `2 rules and 1 sysctl`."""
        return f"{counted(len(self.rules), 'rule')} and {counted(self.sysctls, 'sysctl')}"


class Layer(NamedTuple):
    """A policy file, or a folder of them."""

    path: str
    is_folder: bool = True


def layers(path: str) -> tuple[Layer, ...]:
    """Return where the policy `path` is read from. What comes first wins."""
    own = (Layer(drop_in_folder(path)), Layer(path, is_folder=False))
    return (*own, *map(Layer, _BELOW)) if path == DEFAULT_PATH else own


def drop_in_folder(path: str) -> str:
    """Return the drop-in folder of a policy file: `/etc/oomguard.d` for `/etc/oomguard.yaml`."""
    return path.removesuffix(".yaml").removesuffix(".yml") + ".d"


def is_drop_in(name: str) -> bool:
    """Return whether a file of that folder belongs to the policy; an editor's `.#name.yaml` does not."""
    return name.endswith(".yaml") and not name.startswith(".")


def is_mask(mode: int, device: int) -> bool:
    """Return whether a file of that folder is a link to /dev/null, which masks lower files with its name."""
    return S_ISCHR(mode) and device == _NULL_DEVICE


def emptied(before: Policy, after: Policy) -> list[Emptied]:
    """Return each file of `before` that is also in `after`, but no longer has rules or sysctls.

    This includes a main file that is gone. A drop-in is removed on purpose.
    """
    left = {rule.file for rule in after.rules} | {setting.file for setting in after.sysctls}
    found = []
    for file in before.files:
        if file in left or file not in (*after.files, DEFAULT_PATH):
            continue
        rules = frozenset(rule.number for rule in before.rules if rule.file == file)
        sysctls = sum(setting.file == file for setting in before.sysctls)
        if rules or sysctls:
            found.append(Emptied(file, rules, sysctls))
    return found
