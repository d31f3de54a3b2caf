"""Warnings about policies that are valid, but probably not what their author wants.

Each check is a function that yields warnings. Codes never change; docs/lint.md describes them.
"""

import warnings
from collections.abc import Callable, Iterator

from oomguard.policy.fault import Fault
from oomguard.policy.lint.rules import (
    names_collide,
    raised_supervisors,
    rules_alone,
    shadowed_rules,
    unknown_users,
)
from oomguard.policy.lint.slow_patterns import slow_names, slow_patterns
from oomguard.policy.lint.subject import Subject
from oomguard.policy.lint.sysctls import sysctls

CHECKS: tuple[Callable[[Subject], Iterator[Fault]], ...] = (
    *(shadowed_rules, rules_alone, names_collide, slow_patterns, slow_names),
    *(raised_supervisors, unknown_users, sysctls),
)


def lint(subject: Subject) -> list[Fault]:
    """Return all warnings, in no particular order."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # patterns were compiled before
        return [found for check in CHECKS for found in check(subject)]
