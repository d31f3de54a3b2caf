"""`when:` at the top of a file: the hosts on which the file counts."""

import operator
import re
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from typing import Annotated, Any

from pydantic import ConfigDict, Field
from pydantic.functional_validators import AfterValidator

from oomguard.core.host import AskedHost
from oomguard.core.text import any_of, kib, legible
from oomguard.policy import patterns, values
from oomguard.policy.fault import excerpt
from oomguard.policy.language import Flag, Language, Some, Takes, key, many, pattern

_OPERATORS = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}
_SPLIT = re.compile("([<>]=?) ?(.*)")
_VERSION = r"(?:0|[1-9][0-9]{0,4})(?:\.[0-9]{1,5}){0,2}"

_SWAP_WORDS = {"none": "<= 0KiB", "some": "> 0KiB"}

_MISSING_PERCENT = 10
"""How much less than the installed RAM MemTotal may be: firmware and kernel keep some."""
_MISSING_SWAP_KIB = 64
"""The page, of any size, that a swap partition lacks."""


def _least(installed_kib: int) -> int:
    """Return the least MemTotal of a host with so much RAM."""
    return installed_kib * (100 - _MISSING_PERCENT) // 100


def _parts(said: str) -> list[tuple[str, str]]:
    """Return sign and number of each part of a comparison."""
    return _SPLIT.findall(said.replace(",", "\n"))


def _size_fits(said: str, found_kib: int, least: Callable[[int], int] = _least) -> bool:
    sizes = ((sign, values.size(text).of(0) // 1024) for sign, text in _parts(said))
    return all(
        _OPERATORS[sign](found_kib, least(size) if sign in (">=", "<") else size) for sign, size in sizes
    )


def _swap_fits(said: str, found_kib: int) -> bool:
    said = _SWAP_WORDS.get(said, said)
    return _size_fits(said, found_kib, lambda size: max(0, size - _MISSING_SWAP_KIB))


def _version_fits(said: str, release: str) -> bool:
    parts = re.match(r"([0-9]+)(?:\.([0-9]+))?(?:\.([0-9]+))?", release)
    found = [int(part or 0) for part in parts.groups()] if parts else []
    versions = ((sign, [int(part) for part in text.split(".")]) for sign, text in _parts(said))
    return all(_OPERATORS[sign](found[: len(version)], version) for sign, version in versions)


def _form(number: str) -> str:
    """Return the regular expression of comparisons that must all hold, such as `>= 16GiB, < 64GiB`."""
    one = f"(?:>=|<=|>|<) ?{number}"
    return f"{one}(?:, ?{one})*"


def _version(text: str) -> None:
    if re.fullmatch(_VERSION, text) is None:
        hint = "write one to three numbers with points between them"
        raise patterns.refusal("release", f"must be a release such as 6.6, got {excerpt(text)}", hint)


def _comparison(
    form: str, words: str, fits: Callable[[str, Any], bool], check_number: Callable[[str], object]
) -> AfterValidator:
    def check(text: str) -> str:
        if re.fullmatch(form, text) is None:
            if re.fullmatch(_form("[0-9][^,<>=]*"), text):
                for _, number in _parts(text):
                    check_number(number.rstrip())
            hint = (
                "write >=, <=, > or < before a number; two such parts, separated by a comma, must both hold"
            )
            raise patterns.refusal("comparison", f"must be {words}, got {excerpt(text) or repr('')}", hint)
        if text not in _SWAP_WORDS and not any(fits(text, one) for one in _near(text)):
            hint = "exchange them, or write two files: both parts of a comparison must hold"
            raise patterns.refusal("comparison", f"holds on no host, got {text}", hint)
        return text

    return AfterValidator(check)


def _near(text: str) -> Iterator[Any]:
    """Yield what is beside each number that a text compares with: if anything fits, one of these does."""
    for _, number in _parts(text):
        if number.endswith("iB"):
            size = values.size(number).of(0) // 1024
            yield from (max(0, near + one) for near in (size, _least(size)) for one in (-1, 0, 1))
        else:
            *rest, last = map(int, number.split("."))
            yield from (".".join(map(str, (*rest, max(0, last + one)))) for one in (-1, 0, 1))


_SIZES, _VERSIONS = _form(values.SIZE), _form(_VERSION)
_SWAP = f"none|some|{_SIZES}"
_MEMORY_WORDS = "a comparison such as '>= 64GiB'"
_SWAP_TAKES = "none, some or a comparison such as '< 8GiB'"
_KERNEL_WORDS = "a comparison such as '>= 6.6'"

_Memory = Annotated[
    str,
    pattern(_SIZES, limit=100),
    _comparison(_SIZES, _MEMORY_WORDS, _size_fits, values.size),
    Takes(_MEMORY_WORDS),
]
_Swap = Annotated[
    str,
    pattern(_SWAP, limit=100),
    _comparison(_SWAP, _SWAP_TAKES, _swap_fits, values.size),
    Takes(_SWAP_TAKES, hint="write none if there must be no swap"),
]
_Kernel = Annotated[
    str,
    pattern(_VERSIONS, limit=100),
    _comparison(_VERSIONS, _KERNEL_WORDS, _version_fits, _version),
    Takes(_KERNEL_WORDS, hint="write it in quotes, as in '>= 6.6'"),
]
_Name = Annotated[
    str, Field(min_length=1), pattern(r"\S(?:[\s\S]*\S)?", limit=255), AfterValidator(patterns.name)
]


class When(Language):
    """The hosts on which a file counts: all conditions must hold."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    memory: _Memory | None = key(
        "RAM. After >= and <, MemTotal may be 10 % less than the size: the kernel keeps some of what is "
        "installed.",
        ">= 64GiB",
        ">= 16GiB, < 64GiB",
    )
    swap: _Swap | None = key("Swap (SwapTotal); zram counts.", "none", "some", "< 8GiB")
    hostname: Annotated[
        Some[_Name] | None, Takes("a glob on a host name, or a list of them", (str,), "a glob")
    ] = key(
        "Glob on what uname -n prints; the service sees a new name after a restart.",
        "db-*",
        ["web1", "web2"],
    )
    kernel: _Kernel | None = key(
        "Kernel release, compared as far as the version is written: 6.6.30 is not > 6.6.",
        ">= 6.6",
        ">= 6.6, < 6.12",
    )
    container: Flag | None = key("Whether oomguard sees only the processes of a container.", False)


def some(when: When) -> When:
    """Check that there is a condition."""
    if not when.model_fields_set:
        raise patterns.refusal(
            "empty", "must have a condition", "remove it: a file without when: counts everywhere"
        )
    return when


def unmet(when: When, host: AskedHost) -> Iterator[str]:
    """Yield what keeps a file from counting on this host. UnknownHostError: a fact is not known."""
    if when.memory is not None and not _size_fits(when.memory, host.memory_kib):
        yield f"memory is {kib(host.memory_kib)}, not {when.memory}"
    if when.swap is not None and not _swap_fits(when.swap, host.swap_kib):
        yield f"swap is {kib(host.swap_kib)}, not {when.swap}"
    if when.hostname is not None and not any(
        fnmatchcase(host.hostname.lower(), glob.lower()) for glob in many(when.hostname)
    ):
        yield f"hostname is {legible(host.hostname)}, not {any_of(map(excerpt, many(when.hostname)))}"
    if when.kernel is not None and not _version_fits(when.kernel, host.kernel):
        yield f"kernel is {legible(host.kernel)}, not {when.kernel}"
    if when.container is not None and when.container != host.is_container:
        yield f"this is {'' if host.is_container else 'not '}a container"
