"""Sizes and percentages: what each text is, exactly, and what is refused."""

import re
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import PydanticCustomError

from oomguard.core.host import AskedHost, Host, UnknownHostError
from oomguard.core.policy import SysctlSetting
from oomguard.core.sysctl import SYSCTLS
from oomguard.policy import values
from oomguard.policy.load import parse
from oomguard.policy.resolve import resolve

from .conftest import sources

KIB = {"KiB": 1, "MiB": 2**10, "GiB": 2**20, "TiB": 2**30}
ROW = SYSCTLS["vm.min_free_kbytes"]


@given(st.integers(0, 10**12 - 1), st.from_regex(r"(\.[0-9]{1,3})?", fullmatch=True), st.sampled_from([*KIB]))
def test_a_size_is_exact_and_rounded_down(whole: int, fraction: str, unit: str) -> None:
    """To a byte; a space before the unit changes nothing."""
    exact = Fraction(f"{whole}{fraction}") * KIB[unit] * 1024
    for space in ("", " "):
        assert values.size(f"{whole}{fraction}{space}{unit}").of(0) == exact // 1


@given(st.integers(0, 99), st.from_regex(r"(\.[0-9]{1,3})?", fullmatch=True), st.integers(0, 2**44))
def test_a_share_is_exact_and_rounded_down(whole: int, fraction: str, total_kib: int) -> None:
    """To a kB, once."""
    amount = values.percent(f"{whole}{fraction}%")
    found = resolve(ROW, amount, AskedHost(Host(total_kib))).number
    assert found == min(Fraction(f"{whole}{fraction}") * total_kib // 100, ROW.high)


@pytest.mark.parametrize(
    ("written", "name", "meaning"),
    [
        (
            "vm: {overcommit_memory: 2, commit_limit: {leave: 8GiB}}",
            "vm.overcommit_kbytes",
            "commit_limit leaves 8 GiB, but RAM is only 4.0 GiB = 1 kB",
        ),
        ("vm: {nr_hugepages: 2MiB}", "vm.nr_hugepages", "2 MiB = 1 huge page"),
        ("vm: {nr_hugepages: 4MiB}", "vm.nr_hugepages", "4 MiB = 2 huge pages"),
    ],
)
def test_what_a_value_comes_to_reads_as_a_sentence(written: str, name: str, meaning: str) -> None:
    """A limit that cannot leave so much says so."""
    policy = parse(sources(written), host=Host(4 * 2**20, 0, 0, 0, 2048)).policy
    assert f"{name} {meaning}" in [setting.meaning for setting in policy.sysctls]


@given(st.text(max_size=20) | st.from_regex(r"[-+]?[0-9_.,]{1,6} ?([A-Za-z]{1,4}|%)", fullmatch=True))
def test_every_text_is_an_amount_or_refused_with_a_hint_that_works(text: str) -> None:
    """What the hint says to write instead is taken."""
    try:
        values.size_or_percent(text)
    except PydanticCustomError as error:
        context = error.context or {}
        assert context["message"].startswith("must be a size such as 512MiB, or a percentage from 0% to 100%")
        if found := re.match(r"write ([0-9.]+(?:[KMGT]iB|%))", context["hint"]):
            values.size_or_percent(found[1])


@given(st.integers(1, 2**40), st.integers(0, 2**30), st.integers(0, 2**30))
def test_a_share_stays_within_its_bounds(total_kib: int, first: int, second: int) -> None:
    """Whatever the RAM."""
    low, high = sorted((first, second))
    written = f"vm: {{min_free_kbytes: {{ram: 3%, min: {low}KiB, max: {high}KiB}}}}"
    (setting,) = parse(sources(written), host=Host(total_kib)).policy.sysctls
    assert low <= setting.value <= high
    assert setting.value in (low, high, total_kib * 3 // 100)


def test_nothing_of_a_group_is_set_where_a_part_of_it_is_not_known() -> None:
    """Strict accounting without its limit would be another one."""
    written = "vm: {overcommit_memory: 2, commit_limit: 90%, swappiness: 10, user_reserve_kbytes: 1MiB}"
    policy = parse(sources(written), host=Host(hostname="x")).policy
    assert policy.sysctls == (SysctlSetting("vm.swappiness", 10, "0.yaml", 1),)
    assert policy.unresolved == 3
    assert len(parse(sources(written)).policy.sysctls) == 3


@pytest.mark.parametrize("written", ["3%", "{at_least: 3%}", "{ram: 3%, min: 1GiB}"])
def test_a_share_needs_a_host_and_a_size_does_not(written: str) -> None:
    """So `check` needs none."""
    assert parse(sources(f"vm: {{min_free_kbytes: {written}}}")).policy.unresolved == 1
    assert parse(sources("vm: {min_free_kbytes: 64MiB}")).policy.sysctls[0].value == 65536
    with pytest.raises(UnknownHostError):
        resolve(ROW, values.percent("3%"), AskedHost(None))
