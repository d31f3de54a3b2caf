"""What is proposed, what is refused, and why: each case is a host."""

from pathlib import Path

import pytest

from oomguard.core.host import Host
from oomguard.core.overcommit import Memory
from oomguard.core.overcommit import Peak as LastingPeak
from oomguard.core.policy import Policy
from oomguard.core.rule import Value
from oomguard.core.sysctl_diff import diff_sysctls
from oomguard.core.text import kib
from oomguard.policy.load import load, parse
from oomguard.policy.source import Source
from oomguard.policy.users import Users
from oomguard.propose.advice import HostFacts, PeakSinceStart, Running, advise
from oomguard.propose.mend import valid
from oomguard.propose.policy_draft import render

GIB = 1024 * 1024  # KiB
SYSCTLS = {
    "vm.overcommit_memory": 0,
    "vm.overcommit_ratio": 50,
    "vm.overcommit_kbytes": 0,
    "vm.admin_reserve_kbytes": 8192,
    "vm.user_reserve_kbytes": 131072,
    "vm.panic_on_oom": 0,
    "kernel.panic": 0,
    "kernel.panic_on_oops": 0,
    "kernel.keys.root_maxkeys": 1_000_000,
    "kernel.keys.root_maxbytes": 25_000_000,
    "vm.max_map_count": 65530,
}
POSTGRES = Running("postgres", "postgres")
REDIS = Running("redis-server", "redis")
KUBELET = Running("kubelet", "root")
WEEK = 7 * 24 * 3600.0


def host(
    *running: Running,
    committed: int = 4,
    peak: PeakSinceStart | None = None,
    lasting: LastingPeak | None = None,
    swap: int = 0,
    huge: int = 0,
    **sysctls: int,
) -> HostFacts:
    """Return a host of 16 GiB."""
    memory = Memory(16 * GIB, swap * GIB, huge * GIB, 8 * GIB, committed * GIB)
    return HostFacts(
        memory, SYSCTLS | {f"vm.{key}": value for key, value in sysctls.items()}, running, peak, lasting
    )


def proposed(facts: HostFacts) -> tuple[Policy, dict[str, int], str]:
    """Return the policy that is proposed, its sysctls, and its text on one line without marks."""
    text = render(valid(advise(facts)))
    memory = facts.memory
    huge = memory.hugetlb_kib
    here = Host(memory.total_kib, memory.swap_total_kib, huge, huge, 2048)
    policy, warnings = parse((Source("draft", text.encode()),), host=here, users=Users())
    assert {fault.code for fault in warnings} <= {"unknown-user"}
    plain = " ".join(line.strip().lstrip("# ") for line in text.splitlines())
    return policy, {one.name: one.value for one in policy.sysctls}, plain


LIMIT = "vm.overcommit_kbytes"


def share(percent: int | None) -> int | None:
    """Return so much of the RAM."""
    return None if percent is None else 16 * GIB * percent // 100


def test_a_host_that_nothing_is_known_of_keeps_its_mode() -> None:
    """It is not guessed at; a panic that would hang is mended."""
    policy, sysctls, text = proposed(host(Running("bash", "root")))
    assert sysctls == {"vm.panic_on_oom": 0, "kernel.panic": 10}
    assert "no running program is known to need a certain mode" in text
    assert "after a panic this host hangs" in text
    assert policy.rules == ()
    assert "rules" not in text  # there are none below


def test_redis_wants_everything_granted() -> None:
    """With the reason, and a rule for its user."""
    policy, sysctls, text = proposed(host(REDIS))
    assert sysctls["vm.overcommit_memory"] == 1
    assert "src/syscheck.c" in text
    assert [rule.label for rule in policy.rules] == ["name=redis-server user=redis"]
    assert policy.rules[0].terms.scope == "main"


def test_kubernetes_wants_six_things() -> None:
    """As protectKernelDefaults checks them."""
    _, sysctls, text = proposed(host(KUBELET))
    assert sysctls == {
        "vm.overcommit_memory": 1,
        "vm.panic_on_oom": 0,
        "kernel.panic": 10,
        "kernel.panic_on_oops": 1,
        "kernel.keys.root_maxkeys": 1_000_000,
        "kernel.keys.root_maxbytes": 25_000_000,
    }
    assert "protectKernelDefaults" in text


def test_postgresql_and_redis_on_one_host_cannot_both_be_pleased() -> None:
    """Both are named with what they want, and nothing is proposed."""
    _, sysctls, text = proposed(host(POSTGRES, REDIS, peak=PeakSinceStart(4 * GIB, WEEK)))
    assert "vm.overcommit_memory" not in sysctls
    assert LIMIT not in sysctls
    assert "so 1, but PostgreSQL" in text
    assert "One host cannot have both" in text


@pytest.mark.parametrize("peak", [None, PeakSinceStart(4 * GIB, 3600.0 * 5)])
def test_strict_accounting_takes_a_peak_that_saw_a_day(peak: PeakSinceStart | None) -> None:
    """What is promised at this moment is no ground for a limit."""
    _, sysctls, text = proposed(host(POSTGRES, peak=peak))
    assert "vm.overcommit_memory" not in sysctls
    assert "let `oomguard run` measure for a day" in text
    assert ("covers only 5 hours" if peak else "no daemon has measured its peak") in text


@pytest.mark.parametrize(
    ("peak", "percent"),
    [(4, 80), (10, 80), (12, 95), (13, None)],
)
def test_the_limit_is_one_under_which_the_peak_was_granted(peak: int, percent: int | None) -> None:
    """With a fifth on top, and what is kept for root taken off; refused where even 95 % is too little."""
    facts = host(POSTGRES, peak=PeakSinceStart(peak * GIB, WEEK))
    policy, sysctls, text = proposed(facts)
    assert sysctls.get(LIMIT) == share(percent)
    assert sysctls.get("vm.overcommit_memory") == (None if percent is None else 2)
    assert "7 days" in text
    assert ("Add swap" in text) == (percent is None)
    if percent is not None:
        assert f"commit_limit: {percent}%" in text
        assert f"CommitLimit {kib(sysctls[LIMIT])};" in text, "as it says"
        assert "admin_reserve_kbytes: {at_least: 128MiB}" in text
        memory = facts.memory._replace(commit_limit_kib=8 * GIB, committed_kib=peak * GIB)
        changes = diff_sysctls(policy, facts.sysctls, memory, {}, cause="policy")
        assert all(change.obstacle is None for change in changes), "the interlock allows it"


@pytest.mark.parametrize("ram", [4, 64, 512, 4096])
def test_the_limit_and_its_reason_scale_with_the_host(ram: int) -> None:
    """What is promised is a third."""
    facts = host(POSTGRES, peak=PeakSinceStart(ram * GIB // 3, WEEK))
    facts = facts._replace(memory=facts.memory._replace(total_kib=ram * GIB, committed_kib=0))
    _, sysctls, text = proposed(facts)
    assert f"CommitLimit {kib(sysctls[LIMIT])};" in text


def test_the_peak_of_earlier_days_counts_if_it_is_more() -> None:
    """The interlock would refuse a limit below it."""
    lasting = LastingPeak(12 * GIB, "2026-11-20", "/var/lib/oomguard/committed.json")
    _, sysctls, text = proposed(host(POSTGRES, peak=PeakSinceStart(4 * GIB, WEEK), lasting=lasting))
    assert sysctls[LIMIT] == share(95)
    assert "the highest that lasted: 12.0 GiB on 2026-11-20." in text
    assert "lately is 12.0 GiB on 2026-11-20" in text
    _, sysctls, text = proposed(host(POSTGRES, peak=PeakSinceStart(13 * GIB, WEEK), lasting=lasting))
    assert LIMIT not in sysctls


def test_swap_counts_and_huge_pages_do_not() -> None:
    """As in mm/util.c:vm_commit_limit."""
    _, sysctls, _ = proposed(host(POSTGRES, peak=PeakSinceStart(13 * GIB, WEEK), swap=4))
    assert sysctls[LIMIT] == share(80)
    _, sysctls, text = proposed(host(POSTGRES, peak=PeakSinceStart(10 * GIB, WEEK), huge=8))
    assert LIMIT not in sysctls
    assert "8.0 GiB of it in huge pages" in text


def test_what_is_promised_now_counts_if_it_is_more_than_the_peak() -> None:
    """The daemon looks once a minute."""
    _, sysctls, _ = proposed(host(POSTGRES, committed=12, peak=PeakSinceStart(4 * GIB, WEEK)))
    assert sysctls[LIMIT] == share(95)


def test_a_panic_that_somebody_chose_is_left_and_made_to_reboot() -> None:
    """It makes every rule moot, and that is said."""
    _, sysctls, text = proposed(host(panic_on_oom=1))
    assert "vm.panic_on_oom" not in sysctls
    assert sysctls["kernel.panic"] == 10
    assert "is 1, which somebody chose" in text


def test_sysctls_that_cannot_be_read_are_left_out() -> None:
    """Nothing is said about what is not known."""
    facts = host()._replace(sysctls={})
    policy, sysctls, text = proposed(facts)
    assert sysctls == {}
    assert policy.rules == ()
    assert "vm.panic_on_oom: cannot be read here" in text


def test_elasticsearch_is_told_from_other_java() -> None:
    """By its command line; every JVM is a reason to think before mode 2."""
    elastic = Running(
        "java", "elasticsearch", cmdline="java -Xmx1g org.elasticsearch.bootstrap.Elasticsearch"
    )
    _, sysctls, text = proposed(host(elastic))
    assert sysctls["vm.max_map_count"] == 262144
    assert "a JVM reserves" in text
    policy, _, text = proposed(host(elastic, max_map_count=1_000_000))
    assert [str(one.kind) for one in policy.sysctls if one.name == "vm.max_map_count"] == ["at_least"]
    assert "it is 1000000;" in text, "another host may have less"
    assert "vm.max_map_count" not in proposed(host(Running("java", "tomcat", cmdline="java -jar x")))[1]


def test_containers_and_people_give_no_rules() -> None:
    """A runtime sets its containers' values, and anybody may call a program postgres."""
    inside = Running("postgres", "999", in_container=True)
    mine = Running("redis-server", "alice", is_service=False)
    policy, sysctls, _ = proposed(host(inside, mine, peak=PeakSinceStart(GIB, WEEK)))
    assert policy.rules == ()
    assert sysctls["vm.overcommit_memory"] == 2  # that of a container counts, that of a person does not


def test_a_program_that_hands_its_start_value_on_is_left_alone() -> None:
    """Each session would get what sshd was given, as the shipped policy says as well; its own is -1000."""
    policy, _, text = proposed(host(Running("sshd", "root")))
    shipped = load(str(Path(__file__).parents[2] / "etc" / "90-default.yaml")).policy
    of_sshd = [
        (rule.label, rule.terms.value) for rule in (*policy.rules, *shipped.rules) if b"sshd" in rule.names
    ]
    assert of_sshd == [("name=sshd", Value("keep"))] * 2
    assert "passes the value it started" in text


def test_runtimes_whose_shims_follow_them_are_left_alone() -> None:
    """A shim has its parent's value and one more, and a container without a value of its own gets that."""
    policy, _, text = proposed(host(Running("containerd", "root"), Running("dockerd", "root")))
    assert {rule.label: str(rule.terms.value) for rule in policy.rules} == {
        "name=dockerd": "at_most -500",
        "name=containerd": "keep",
    }
    assert "every container that has no value of" in text


def test_redis_that_ranks_itself_is_named() -> None:
    """oom-score-adj of its configuration cannot be seen from here."""
    _, _, text = proposed(host(REDIS))
    assert "its configuration sets oom-score-adj" in text


def test_protective_rules_name_what_runs_and_whose_it_is() -> None:
    """Main processes only, where the others have values of their own."""
    policy, _, _ = proposed(
        host(POSTGRES, Running("sshd", "root"), Running("systemd-logind", "root"), Running("mariadbd", "994"))
    )
    assert [(rule.label, str(rule.terms.value), rule.terms.scope) for rule in policy.rules] == [
        ("name=sshd", "keep", "all"),
        ("name=systemd-logind", "at_most -500", "all"),
        ("name=postgres user=postgres", "at_most -900", "main"),
        ("name=mariadbd user=994", "at_most -500", "main"),
    ]
