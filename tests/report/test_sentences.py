"""The sentences for decisions."""

from oomguard.core.decide import Decision, Obstacle
from oomguard.core.process import Identity
from oomguard.core.rule import Rule, Terms, Value
from oomguard.report.sentences import outlook


def test_what_the_kernel_will_deny_is_told_from_what_the_rule_wants() -> None:
    """With the reason; what it may deny is tried."""
    rule = Rule(0, (b"db",), Terms(value=Value("exact", -900)), "policy.yaml", 3)
    decision = Decision(Identity(7, 1), b"db", rule, own=0, current=0, wanted=-900)
    denied, maybe = Obstacle("denied", "no right"), Obstacle("may-be-denied", "no right")
    assert outlook(decision._replace(obstacle=denied)) == (
        "stays 0; the rule wants -900, but the kernel will deny it: no right"
    )
    assert outlook(decision._replace(obstacle=maybe)) == (
        "will be set to -900, unless the kernel denies it: no right"
    )
