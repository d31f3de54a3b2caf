"""The tools whose settings can be imported: a row each."""

from collections.abc import Callable, Sequence

from oomguard.core.errors import UsageError
from oomguard.propose.importers import ananicy, earlyoom, nohang, sysctl_conf, systemd
from oomguard.propose.importers.files import ForeignError
from oomguard.propose.policy_draft import Draft

IMPORTERS: dict[str, Callable[[Sequence[str]], Draft]] = {
    "earlyoom": earlyoom.import_files,
    "nohang": nohang.import_files,
    "ananicy": ananicy.import_files,
    "systemd": systemd.import_files,
    "sysctl": sysctl_conf.import_files,
}
"""What reads the files of a tool, by its name."""


def import_settings(tool: str, source: Sequence[str]) -> Draft:
    """Return a tool's settings, from its files or arguments.

    ForeignError: they cannot be read. UsageError: the tool has no such arguments.
    """
    argument = next((word for word in source if word.startswith("-")), None)
    if argument is None:
        try:
            return IMPORTERS[tool](source)
        except ForeignError as error:
            if not source and not error.hint:
                error.hint = f"if {tool}'s files are elsewhere: oomguard import {tool} FILE"
            raise
    if tool != "earlyoom":
        raise UsageError(f"{tool} takes files, not {argument}")
    return earlyoom.import_arguments(source)
