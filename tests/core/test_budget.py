"""Accounts that keep one spender from taking everybody's share."""

from hypothesis import given
from hypothesis import strategies as st

from oomguard.core.budget import Budget


def test_a_spender_waits_once_the_capacity_is_spent_and_only_until_it_is_refilled() -> None:
    """The others are not affected."""
    budget = Budget(capacity=1.0, refill=0.1)
    assert not budget
    budget.charge("a", 0.9, now=0.0)
    assert budget
    assert not budget.is_spent("a", now=0.0)
    assert not budget.has_spent
    budget.charge("a", 0.6, now=0.0)
    assert budget.is_spent("a", now=0.0)
    assert budget.has_spent
    assert not budget.is_spent("b", now=0.0)
    assert budget.is_spent("a", now=4.9)
    assert not budget.is_spent("a", now=5.1)
    budget.forget_paid(now=4.9)
    assert budget.has_spent
    budget.forget_paid(now=5.1)
    assert not budget.has_spent


def test_those_who_owe_nothing_are_forgotten() -> None:
    """Their accounts are free for others, who otherwise would share one."""
    budget = Budget(capacity=1.0, refill=0.1)
    for number in range(1024):
        budget.charge(f"user {number}", 0.5, now=0.0)
    budget.charge("late", 1.0, now=5.1)
    assert budget.is_spent("late", now=5.1)
    assert not budget.is_spent("never seen", now=5.1)


def test_more_spenders_than_are_remembered_share_one_account() -> None:
    """However many names one attacker has, what they take together is bounded, and early debts stay."""
    budget = Budget(capacity=2.0, refill=0.0)
    for number in range(5000):
        budget.charge(f"user {number}", 1.0, now=0.0)
    assert not budget.is_spent("user 0", now=0.0)
    budget.charge("user 0", 1.0, now=0.0)
    assert budget.is_spent("user 0", now=0.0)
    assert budget.is_spent("user 4999", now=0.0)
    assert budget.is_spent("never seen", now=0.0)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 1), st.floats(0, 10))))
def test_nobody_gets_more_than_the_capacity_and_the_refill(charges: list[tuple[str, float, float]]) -> None:
    """What is taken while the account allows it is at most capacity + refill x time + one charge."""
    budget = Budget(capacity=2.0, refill=0.5)
    now, taken = 0.0, dict.fromkeys("abc", 0.0)
    for key, amount, pause in charges:
        now += pause
        if not budget.is_spent(key, now):
            budget.charge(key, amount, now)
            taken[key] += amount
    assert all(amount <= 2.0 + 0.5 * now + 1.0 + 1e-6 for amount in taken.values())
