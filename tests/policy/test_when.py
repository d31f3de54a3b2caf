"""Files that count only on some hosts."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from oomguard.core.host import AskedHost, Host
from oomguard.policy.fault import PolicyError
from oomguard.policy.load import parse
from oomguard.policy.source import Source, Sources
from oomguard.policy.when import When, unmet

GIB = 1024 * 1024
HOST = Host(int(62.7 * GIB), 0, 0, 0, 2048, "db-1.Example.com", "6.6.30-cloud-amd64", is_container=False)


def why(host: Host = HOST, **when: object) -> list[str]:
    """Return what keeps a file with these conditions from counting."""
    return list(unmet(When.model_validate(when), AskedHost(host)))


@pytest.mark.parametrize(
    ("fits", "not_so"),
    [
        ({"memory": ">= 64GiB"}, {"memory": "< 64GiB"}),
        ({"memory": "<= 64GiB"}, {"memory": "> 64GiB"}),
        ({"memory": ">= 16GiB, < 1TiB"}, {"memory": ">= 16GiB,< 64GiB"}),
        ({"memory": ">60GiB"}, {"memory": "> 62.8 GiB"}),
        ({"swap": "none"}, {"swap": "some"}),
        ({"swap": "< 1GiB"}, {"swap": ">= 1GiB"}),
        ({"hostname": "db-*"}, {"hostname": "db-1"}),
        ({"hostname": ["web", "DB-1.example.*"]}, {"hostname": ["web", "app"]}),
        ({"kernel": ">= 6.6"}, {"kernel": "< 6.6"}),
        ({"kernel": "<= 6.6"}, {"kernel": "> 6.6"}),
        ({"kernel": "> 6.6.29, < 6.12"}, {"kernel": "> 6.6.30"}),
        ({"kernel": "< 6.12"}, {"kernel": "< 6"}),
        ({"container": False}, {"container": True}),
    ],
)
def test_a_condition_and_its_opposite(fits: dict[str, Any], not_so: dict[str, Any]) -> None:
    """One holds on a database host with 64 GiB installed, of which the kernel shows 62.7."""
    assert why(**fits) == []
    assert len(why(**not_so)) == 1


def test_a_host_is_at_least_as_large_as_what_is_installed_or_smaller_never_both() -> None:
    """For any size, and any MemTotal."""
    for total in (900_000, GIB, 15 * GIB, 16 * GIB, 57 * GIB, 58 * GIB, 2**41):
        for size in ("1GiB", "16GiB", "64GiB", "2048TiB"):
            host = Host(total)
            assert bool(why(host, memory=f">= {size}")) != bool(why(host, memory=f"< {size}"))
            assert bool(why(host, memory=f"> {size}")) != bool(why(host, memory=f"<= {size}"))


def test_of_swap_a_partition_lacks_a_page_and_no_more() -> None:
    """Firmware keeps nothing of it, unlike of RAM."""
    for swap, fits in ((8 * GIB - 4, True), (8 * GIB - 64, True), (8 * GIB - 65, False)):
        host = Host(16 * GIB, swap)
        assert bool(why(host, swap="< 8GiB")) == fits
        assert bool(why(host, swap=">= 8GiB")) != fits


@pytest.mark.parametrize(
    "never",
    [
        {"memory": ">= 64GiB, < 16GiB"},
        {"memory": "< 0KiB"},
        {"swap": "> 8GiB, <= 8GiB"},
        {"kernel": "> 6.6, < 6.7"},
        {"kernel": ">= 6.12, < 6.6.5"},
    ],
)
def test_a_comparison_that_holds_on_no_host_is_refused(never: dict[str, str]) -> None:
    """A comma is no `or`."""
    with pytest.raises(ValidationError, match="holds on no host"):
        When.model_validate(never)


@given(
    st.sampled_from([">=", ">"]), st.integers(0, 10**6), st.sampled_from(["<", "<="]), st.integers(0, 10**6)
)
def test_every_range_that_some_host_is_in_is_taken(low: str, first: int, high: str, second: int) -> None:
    """Whatever its bounds."""
    text = f"{low} {first}KiB, {high} {second}KiB"
    least, most = (
        first * 9 // 10 if low == ">=" else first + 1,
        second * 9 // 10 - 1 if high == "<" else second,
    )
    try:
        When.model_validate({"memory": text})
    except ValidationError:
        assert least > most
    else:
        assert max(0, least) <= most


def test_every_reason_is_given() -> None:
    """With what was found, and what is wanted."""
    assert why(memory="< 2GiB", swap="some", hostname=["web", "app"], kernel="< 6", container=True) == [
        "memory is 62.7 GiB, not < 2GiB",
        "swap is 0 KiB, not some",
        "hostname is db-1.Example.com, not web or app",
        "kernel is 6.6.30-cloud-amd64, not < 6",
        "this is not a container",
    ]


def files(*texts: str, layers: tuple[int, ...] = (), name: str = "") -> Sources:
    """Return policy files of one layer, or each of its own."""
    numbers = layers or (0,) * len(texts)
    return tuple(
        Source(f"{index}.yaml", text.encode(), layer=layer, name=name)
        for index, (text, layer) in enumerate(zip(texts, numbers, strict=True))
    )


SMALL = "when: {memory: '< 64GiB'}\nvm: {swappiness: 10}\nrules: [{name: a, oom_score_adj: 1}]\n"
LARGE = "when: {memory: '>= 64GiB'}\nvm: {swappiness: 20}\nrules: [{name: a, oom_score_adj: 2}]\n"
ANY = "vm: {swappiness: 30}\nrules: [{name: a, oom_score_adj: 3}]\n"


def codes(sources: Sources, host: Host | None = None) -> list[str]:
    """Return the faults of a policy."""
    try:
        return [fault.code for fault in parse(sources, host=host).warnings]
    except PolicyError as error:
        return [fault.code for fault in error.faults]


def test_two_files_for_two_kinds_of_hosts_do_not_conflict() -> None:
    """On each host one of them counts; the other is named, with the reason."""
    assert codes(files(SMALL, LARGE)) == []
    policy = parse(files(SMALL, LARGE), host=HOST).policy
    assert [setting.value for setting in policy.sysctls] == [20]
    assert [rule.terms.value.number for rule in policy.rules] == [2]
    assert policy.files == ("1.yaml",)
    assert policy.left_out == (("0.yaml", "memory is 62.7 GiB, not < 64GiB"),)
    assert policy.facts == {"memory_kib": HOST.memory_kib}


def test_a_conflict_on_some_hosts_is_an_error_everywhere() -> None:
    """With a file that counts on all, or with one for the same hosts: a build must show it."""
    assert codes(files(LARGE, ANY)) == ["contradiction"]
    other = LARGE.replace("20", "40")
    assert codes(files(LARGE, other)) == ["contradiction"]
    assert codes(files(LARGE, other.replace("'", '"'))) == ["contradiction"]
    assert codes(files(LARGE, ANY), HOST) == ["contradiction"]
    assert codes(files(SMALL, ANY), HOST) == []
    with pytest.raises(PolicyError, match="give both files a different when:"):
        parse(files(LARGE, ANY))


def test_two_files_that_fit_one_host_in_different_ways_do_not_conflict() -> None:
    """Their conditions are no values."""
    small = "when: {swap: none}\nvm: {page-cluster: 0}"
    assert codes(files(LARGE, small)) == []
    assert codes(files(LARGE, small), HOST) == []


def test_a_file_that_does_not_fit_replaces_none_of_its_name() -> None:
    """One that fits does."""
    kept = parse(files(SMALL, ANY, layers=(0, 1), name="a.yaml"), host=HOST).policy
    assert [setting.value for setting in kept.sysctls] == [30]
    replaced = parse(files(LARGE, ANY, layers=(0, 1), name="a.yaml"), host=HOST).policy
    assert [setting.value for setting in replaced.sysctls] == [20]
    assert len(replaced.rules) == 1


@pytest.mark.parametrize("host", [None, HOST, HOST._replace(memory_kib=GIB)])
def test_a_file_is_valid_on_all_hosts_or_on_none(host: Host | None) -> None:
    """Whether its when: fits or not."""
    bad = "rules: [{name: a, oom_score_adj: 5000}, {oom_score_adj: 1}]\n"
    bad += "vm: {overcommit_ratio: 1, commit_limit: 1%}"
    for when in ("< 64GiB", ">= 64GiB"):
        text = f"when: {{memory: '{when}'}}\n{bad}\n"
        assert sorted(codes(files(text, ANY), host)) == ["exclusive-pair", "no-condition", "out-of-range"]


def test_a_rule_that_is_shadowed_on_some_hosts_only_is_no_mistake() -> None:
    """It takes effect on the others; below a rule for all hosts it never does."""
    rule = "rules: [{name: a, oom_score_adj: 3}]\n"
    assert codes(files(LARGE, rule)) == []
    assert codes(files(rule, LARGE)) == ["shadowed-rule"]
    assert codes(files(LARGE, rule), HOST) == []


def test_without_meminfo_a_file_for_some_sizes_does_not_count() -> None:
    """It may be one or the other."""
    policy = parse(files(SMALL, LARGE, "rules: []"), host=Host(hostname="x")).policy
    assert policy.files == ("2.yaml",)
    assert [one.why for one in policy.left_out] == ["memory is not known here"] * 2


def test_the_faults_of_conditions() -> None:
    """Each says what to write."""
    text = "when: {memory: 64GiB, swap: no, kernel: 6.6, hostname: [], container: 1, os: x}"
    with pytest.raises(PolicyError) as caught:
        parse(files(text))
    assert [(fault.path, fault.hint) for fault in caught.value.faults] == [
        (
            "when.memory",
            "write >=, <=, > or < before a number; two such parts, separated by a comma, must both hold",
        ),
        ("when.swap", "write none if there must be no swap"),
        ("when.kernel", "write it in quotes, as in '>= 6.6'"),
        ("when.hostname", "remove the key, or add an item"),
        ("when.container", ""),
        ("when.os", "allowed here: memory, swap, hostname, kernel, container"),
    ]
