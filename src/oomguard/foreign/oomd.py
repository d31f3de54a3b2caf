"""systemd-oomd's rules: in which units it kills whatever their oom_score_adj (oomd.conf(5), systemd 261)."""

import os
from collections.abc import Iterator

from oomguard.foreign.text_file import SourcedValue, lines_or_none
from oomguard.foreign.units import Units, assignments

FOLDERS = (
    "etc/systemd/oomd/rules.d",
    "run/systemd/oomd/rules.d",
    "usr/local/lib/systemd/oomd/rules.d",
    "usr/lib/systemd/oomd/rules.d",
)
"""Most important first."""


def rules_of(unit: str, units: Units, root: str) -> SourcedValue | None:
    """Return the `OOMRules=` of a unit that have an action, None if there are none."""
    names: list[str] = []
    last = None
    for last in units.settings(unit, "OOMRules"):
        names = [*names, *last.value.split()] if last.value else []
    names = [name for name in names if _acts(name, root)]
    return last._replace(value=" ".join(names)) if last and names else None


def monitored_units(cgroup: str) -> Iterator[str]:
    """Yield the slices that a cgroup is in, and its unit: what may have rules for it."""
    yield "-.slice"
    for name in cgroup.split("/"):
        if name:
            yield name
        if name and not name.endswith(".slice"):
            return


def _acts(name: str, root: str) -> bool:
    """Return whether a ruleset exists and has an action; one without is ignored."""
    paths = (os.path.join(root, folder, f"{os.path.basename(name)}.oomrule") for folder in FOLDERS)
    file = next(filter(os.path.exists, paths), "")
    return any(one.key == "Action" and one.value for one in assignments(lines_or_none(file) if file else ()))
