"""The values of sysctls on a host.

Every number is rounded down to the unit of its sysctl: a byte, 1 kB (1024 bytes) or a huge page.
"""

from typing import Any, NamedTuple

from oomguard.core.choices import SysctlKind
from oomguard.core.host import AskedHost
from oomguard.core.rule import bounded
from oomguard.core.sysctl import ULONG_MAX, UNIT_BYTES, Sysctl
from oomguard.core.text import kib
from oomguard.policy.sysctl_model import Knob
from oomguard.policy.values import Amount

_IN_WORDS: dict[SysctlKind, str] = {"at_least": "at least", "at_most": "at most"}


class Resolved(NamedTuple):
    """A value on a host. `said` is the value as the policy has it, "" if it is this number."""

    number: int
    kind: SysctlKind = "exact"
    said: str = ""


def resolve(row: Sysctl, said: Knob, host: AskedHost) -> Resolved:
    """Return the number for the value of a sysctl. UnknownHostError: a fact is missing."""
    if isinstance(said, int):
        return Resolved(said)
    if isinstance(said, Amount):
        return Resolved(number(row, said, host), said=_shown(said, host))
    given = {key: amount for key, amount in said if amount is not None}
    for kind, words in _IN_WORDS.items():
        if kind in given:
            return Resolved(number(row, given[kind], host), kind, f"{words} {_shown(given[kind], host)}")
    value, text = number(row, given["ram"], host), _shown(given["ram"], host)
    for key, (kind, words) in zip(("min", "max"), _IN_WORDS.items(), strict=True):
        limited = bounded(kind, number(row, given[key], host), value) if key in given else value
        if limited != value:
            value, text = limited, f"{text}, {words} {given[key].text}"
    return Resolved(value, said=text)


def number(row: Sysctl, amount: int | Amount, host: AskedHost) -> int:
    """Return an amount in the unit of a sysctl, limited to the kernel's range."""
    if isinstance(amount, int):
        return amount
    unit = UNIT_BYTES.get(row.unit) or max(1, host.huge_page_kib) * 1024
    return max(row.low, min(amount.of(host.memory_kib if amount.is_percent else 0) // unit, row.high))


def commit_limit(said: Any, pages: Resolved | None, host: AskedHost) -> Resolved:
    """Return the `vm.overcommit_kbytes` for a commit limit; `pages` are the huge pages that the policy wants.

    If there is less RAM than to leave, it is 1 kB: 0 would mean no limit of this kind.
    """
    if isinstance(said, Amount) and not said.is_percent:
        return Resolved(min(max(1, said.of(0) // 1024), ULONG_MAX), said=f"commit_limit {said.text}")
    hugetlb = host.hugetlb_kib
    if pages is not None:
        hugetlb = host.other_hugetlb_kib
        now = (host.hugetlb_kib - hugetlb) // max(1, host.huge_page_kib) if pages.kind != "exact" else 0
        hugetlb += bounded(pages.kind, pages.number, now) * host.huge_page_kib
    ram = max(0, host.memory_kib - hugetlb)
    of = f"{kib(ram)}{' without huge pages' if hugetlb else ''}"
    if isinstance(said, Amount):
        return Resolved(max(1, said.of(ram) // 1024), said=f"commit_limit {said.text} of {of}")
    limit = ram - said.leave.of(0) // 1024
    of = f" of {of}" if limit > 0 else f", but RAM is only {of}"
    return Resolved(max(1, limit), said=f"commit_limit leaves {said.leave.text}{of}")


def _shown(amount: int | Amount, host: AskedHost) -> str:
    if isinstance(amount, int):
        return str(amount)
    return f"{amount.text} of {kib(host.memory_kib)}" if amount.is_percent else amount.text
