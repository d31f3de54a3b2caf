"""Running processes that a rule without a match was probably meant for."""

import difflib
from collections.abc import Collection
from itertools import islice

from oomguard.core.match import is_glob
from oomguard.core.name_regex import is_regex
from oomguard.core.process import COMM_LENGTH
from oomguard.core.rule import Rule

_SHOWN = 3
_COMPARED = 2000
"""The maximum number of names compared: users choose how many there are, and some take long."""


def near_misses(rule: Rule, running: Collection[bytes]) -> list[bytes]:
    """Return the names among `running` that are close to a name of the rule, the closest first.

    A close name differs in case, in a letter or two, or by a prefix or suffix.
    """
    found: dict[bytes, None] = {}
    texts = {name.decode("utf-8", "surrogateescape"): name for name in islice(running, _COMPARED)}
    for name in rule.names:
        if is_glob(name) or is_regex(name):
            continue
        text = name[:COMM_LENGTH].decode("utf-8", "surrogateescape")
        close = [one for one in texts if len(text) >= 3 and text.lower() in one.lower()]
        close += difflib.get_close_matches(text, texts, n=_SHOWN, cutoff=0.75)
        found.update(dict.fromkeys(texts[one] for one in close))
    return [*found][:_SHOWN]
