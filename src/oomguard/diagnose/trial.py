"""Tries the regular expressions of a policy, for as long as `check` may take."""

import time
from typing import TYPE_CHECKING

from oomguard.kernel.timeout import TooLongError, within
from oomguard.policy.backtracking import NoTimeError
from oomguard.reconcile.matching import MATCH_SECONDS

if TYPE_CHECKING:
    import re

_FAR_TOO_LONG = 5
"""A margin, so that hosts of different speeds give the same warnings."""

_TRIAL_SECONDS = 2
"""CPU time for trying all patterns of the policy."""


class Trial:
    """Finds patterns that take much longer than the daemon waits."""

    def __init__(self) -> None:
        self._until = time.process_time() + _TRIAL_SECONDS

    def __call__(self, pattern: "re.Pattern[str]", text: str) -> bool:
        """Search the text. NoTimeError: all searches together took too long."""
        if time.process_time() > self._until:
            raise NoTimeError
        try:
            within(_FAR_TOO_LONG * MATCH_SECONDS, lambda: pattern.search(text))
        except TooLongError:
            return True
        return False
