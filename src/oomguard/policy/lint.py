"""Policies that are valid and yet probably not what their author wants."""

from typing import TYPE_CHECKING

from oomguard.policy.fault import Fault

if TYPE_CHECKING:
    from collections.abc import Iterator

    from oomguard.core.policy import Policy
    from oomguard.policy.compile import Document, Users


def lint(policy: "Policy", documents: "tuple[Document, ...]", users: "Users | None") -> "Iterator[Fault]":
    """Yield warnings. `users` are this host's, None where the policy is meant for another one."""
    return iter(())
