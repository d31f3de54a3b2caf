"""Who would have died under another policy, and what a report does not tell of that."""

from pathlib import Path

import pytest

import oom_formats as formats
from oomguard.core.policy import Policy
from oomguard.oom.backtest import Backtest, Backtester
from oomguard.oom.log_reader import OomLog
from oomguard.oom.postmortem import examine
from oomguard.policy.load import parse
from oomguard.policy.source import Source
from oomguard.report.postmortem import Incident, facts

HOST = "\n".join(formats.host_report(formats.KERNELS[-1]))
HOST_OF_2_6_39 = "\n".join(formats.host_report(formats.KERNELS[0]))
EXACT = "  - {name: postgres, oom_score_adj: 800}\n"


def load_text(text: str) -> Policy:
    """Load a policy from text."""
    return parse((Source("a.yaml", text.encode()),)).policy


def replay(policy: str, text: str = HOST) -> Backtest:
    """Replay the only report of a log under a policy of these rules."""
    (report,) = OomLog().read([text])
    backtest = Backtester(load_text(f"rules:\n{policy}")).replay(examine(report))
    assert backtest is not None
    return backtest


def names(backtest: Backtest) -> list[str]:
    """Return who may have died, the likeliest first."""
    return [one.place.task.comm for one in backtest.victims]


def test_same_values_give_the_same_victim() -> None:
    """A policy that says nothing of them changes nothing."""
    backtest = replay("  - {name: nobody-has-this, oom_score_adj: 500}\n")
    assert (backtest.result, names(backtest)) == ("same", ["report (new) x"])


def test_other_value_gives_another_victim() -> None:
    """The database would have gone first."""
    backtest = replay(EXACT)
    assert (backtest.result, names(backtest)) == ("other", ["postgres"])
    assert backtest.victims[0].likely.rule is not None
    assert backtest.victims[0].likely.value == 800


def test_group_dies_whichever_of_it_is_chosen() -> None:
    """memory.oom.group: another first one saves nobody."""
    helper = "  - {name: helper, user: 33, oom_score_adj: 1000}\n"
    backtest = replay(helper, formats.GROUP_5_15)
    assert (backtest.result, names(backtest)) == ("same", ["helper"])
    finding = examine(*OomLog().read([formats.GROUP_5_15]))
    told = dict(facts(Incident(1, finding, None, backtest, "p")))["Policy"]
    assert told.startswith("Under p, the same processes would have been killed, first helper[901] (")
    single = formats.GROUP_5_15.partition("Tasks in")[0]
    assert replay(helper, single).result == "other"


def test_parent_of_a_victim_was_chosen_and_not_killed() -> None:
    """Before Linux 5.1, the kernel kills a child of what it chooses."""
    backtest = replay("  - {name: other, oom_score_adj: 1}\n", formats.CHILD_3_19)
    finding = examine(*OomLog().read([formats.CHILD_3_19]))
    told = dict(facts(Incident(1, finding, None, backtest, "p")))["Policy"]
    assert told == "Under p, the same process would have been chosen: ruby[9772] (oom_score_adj 0, no rule)."


def test_open_rules_that_are_not_named_are_counted() -> None:
    """A policy may have many for one name."""
    rules = "".join(f"  - {{name: postgres, cmdline: a{at}, oom_score_adj: 800}}\n" for at in range(7))
    (report,) = OomLog().read([HOST])
    told = dict(facts(Incident(1, examine(report), None, replay(rules), "p")))["Policy"]
    assert told.endswith("cmdline=a4 (a.yaml:6) and 2 more.")


def test_first_rule_wins() -> None:
    """As it does in the daemon."""
    backtest = replay("  - {name: postgres, oom_score_adj: keep}\n" + EXACT)
    assert backtest.result == "same"


def test_user_and_bounds_are_known() -> None:
    """The table has the uid and the value that at_most and at_least look at."""
    backtest = replay("  - {name: 'report*', user: 1000, oom_score_adj: {at_most: 0}}\n")
    assert names(backtest) == ["postgres"]
    backtest = replay("  - {name: 'report*', user: 1001, oom_score_adj: {at_most: 0}}\n")
    assert names(backtest) == ["report (new) x"]


def test_cgroup_of_the_victim_is_known() -> None:
    """The report says where it lived, and of nobody else."""
    backtest = replay("  - {unit: session-3.scope, oom_score_adj: -1000}\n")
    assert names(backtest)[0] != "report (new) x"
    backtest = replay("  - {unit: session-4.scope, oom_score_adj: -1000}\n")
    assert "report (new) x" in names(backtest)


@pytest.mark.parametrize(
    "condition",
    ["cmdline: serve", "exe: /usr/bin/postgres", "unit: db.service", "cgroup: /db", "scope: main"],
)
def test_what_is_not_known_is_left_open(condition: str) -> None:
    """A rule that asks for more than a report has may hold or not: both are told, and which rule it is."""
    backtest = replay(f"  - {{name: postgres, {condition}, oom_score_adj: 800}}\n")
    assert backtest.result == "open"
    assert set(names(backtest)) == {"postgres", "report (new) x"}
    assert [rule.number for rule in backtest.open_rules] == [0]


def test_open_rule_that_changes_no_victim_is_no_doubt() -> None:
    """Whether or not it held, the same one dies."""
    backtest = replay("  - {name: postgres, cmdline: serve, oom_score_adj: -500}\n")
    assert backtest.result == "same"
    assert backtest.open_rules


def test_protection_that_is_not_trusted_is_not_given() -> None:
    """Any user may call a program that name: neither the daemon nor a replay believes it."""
    backtest = replay("  - {name: 'report*', oom_score_adj: -1000}\n")
    assert backtest.result == "same"
    assert backtest.victims[0].likely.value == 300
    backtest = replay("  - {name: 'report*', trust: name, oom_score_adj: -1000}\n")
    assert backtest.result == "other"


def test_trust_that_depends_on_the_cgroup_is_open() -> None:
    """A system user's process is trusted in a system service, and the report does not tell where it lived."""
    policy = (
        "  - {name: postgres, oom_score_adj: -900}\n  - {name: 'report*', user: 1000, oom_score_adj: 0}\n"
    )
    backtest = replay(policy)
    assert backtest.result == "open"
    assert names(backtest)[0] == "report (new) x"


def test_nobody_may_be_left() -> None:
    """A policy that makes everything immune leaves nobody to kill."""
    everything = "  - {name: '*', trust: name, oom_score_adj: -1000}\n"
    assert replay(everything).result == "nobody"


def test_containers_are_left_to_their_runtime() -> None:
    """A rule does not hold what lives in a container unless it says so."""
    text = HOST.replace(
        "/user.slice/user-1000.slice/session-3.scope", "/kubepods.slice/pod1.slice/cri-containerd-a"
    )
    rule = "  - {{name: 'report*', {}oom_score_adj: {{at_most: 0}}, trust: name}}\n"
    assert replay(rule.format(""), text).result == "same"
    assert replay(rule.format("containers: true, "), text).result == "other"


@pytest.mark.parametrize(
    ("cgroup", "is_contained"),
    [
        ("/system.slice/docker-4bcba7fc4369fee4.scope", True),
        ("/docker/4bcba7fc4369fee4", True),
        ("/lxc.payload.web1/init.scope", True),
        ("/lxc/100/ns", True),
        ("/machine.slice/machine-web1.scope/payload", True),
        ("/machine.slice/libpod-55ea3863.scope", True),
        ("/system.slice/docker.service", False),
        ("/system.slice/lxcfs.service", False),
        ("/machine.slice/machine-qemu\\x2d1\\x2dweb.scope/libvirt/emulator", False),
        ("/user.slice/user-1000.slice/user@1000.service/user.slice/docker-4bcba7fc4369fee4.scope", False),
    ],
)
def test_runtimes_and_virtual_machines_are_no_containers(cgroup: str, *, is_contained: bool) -> None:
    """Nor is what a user runs in one: there rules hold as ever."""
    text = HOST.replace("/user.slice/user-1000.slice/session-3.scope", cgroup)
    rule = "  - {name: 'report*', oom_score_adj: {at_most: 0}, trust: name}\n"
    assert replay(rule, text).result == ("same" if is_contained else "other")


def test_cgroup_that_is_a_unit_tells_the_unit_of_all_in_it() -> None:
    """When a service is at its limit, everything that could be taken lived in it."""
    text = (Path(__file__).parent.parent / "reports" / "6.18-memcg-value-decides.txt").read_text()
    text = text.replace("/oom-report", "/system.slice/app.service")
    backtest = replay("  - {name: db-server, unit: app.service, oom_score_adj: 900}\n", text)
    assert (backtest.result, names(backtest)) == ("other", ["db-server"])
    assert backtest.open_rules == ()


def test_reports_without_a_table_are_not_replayed() -> None:
    """Without figures there is nothing to decide."""
    (report,) = OomLog().read([formats.ALLOCATING_6_1])
    assert Backtester(load_text("rules: []\n")).replay(examine(report)) is None


def test_a_kernel_whose_least_badness_is_0_may_choose_nobody() -> None:
    """From 2.6.36 to 2.6.38: with 0, a process is not chosen."""
    text = HOST_OF_2_6_39.replace("2.6.39", "2.6.37")
    for pages in ("90000", "40000"):
        text = text.replace(f"    {pages}        0", "        1        0")
    replay("  - {name: postgres, cmdline: x, oom_score_adj: 0}\n  - {name: 'r*', oom_score_adj: 0}\n", text)
