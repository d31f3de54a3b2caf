"""The tools whose settings can be imported: a row each."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from oomguard.propose.importers import ananicy, earlyoom, nohang, sysctl_conf, systemd
from oomguard.propose.importers.files import ForeignError
from oomguard.propose.policy_draft import Draft


class Importer(NamedTuple):
    """How to read a tool's settings: from its files, or from its arguments if it has no files."""

    from_files: Callable[[Sequence[str]], Draft]
    from_arguments: Callable[[Sequence[str]], Draft] | None = None


IMPORTERS = {
    "earlyoom": Importer(earlyoom.import_files, earlyoom.import_arguments),
    "nohang": Importer(nohang.import_files),
    "ananicy": Importer(ananicy.import_files),
    "systemd": Importer(systemd.import_files),
    "sysctl": Importer(sysctl_conf.import_files),
}
"""By the name of the tool."""


def import_settings(tool: str, source: Sequence[str]) -> Draft:
    """Return a tool's settings, from its files or arguments. ForeignError: they cannot be read."""
    importer = IMPORTERS[tool]
    argument = next((word for word in source if word.startswith("-")), None)
    if argument is None:
        try:
            return importer.from_files(source)
        except ForeignError as error:
            if not source and not error.hint:
                error.hint = f"if {tool}'s files are elsewhere: oomguard import {tool} FILE"
            raise
    if importer.from_arguments is None:
        raise ForeignError(f"{tool} takes files, not {argument}")
    return importer.from_arguments(source)
