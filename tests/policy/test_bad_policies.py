"""The exact messages for policies and case files that cannot be used."""

from pathlib import Path
from typing import NamedTuple

import pytest

from oomguard.policy.cases.case_file import parse_cases
from oomguard.policy.fault import PolicyError, render_text
from oomguard.policy.load import parse
from oomguard.policy.source import Source


class _Case(NamedTuple):
    title: str
    text: str
    faults: str
    is_cases: bool


def _cases() -> list[_Case]:
    cases = []
    for name in ("bad_policies.txt", "bad_cases.txt"):
        text = (Path(__file__).parent / name).read_text()
        for section in text.split("\n=== ")[1:]:
            title, _, rest = section.partition("\n")
            policy, _, faults = rest.partition(">>>\n")
            cases.append(_Case(title, policy, faults.strip("\n"), name == "bad_cases.txt"))
    return cases


def _faults(case: _Case) -> PolicyError:
    source = Source("policy.yaml", case.text.encode())
    with pytest.raises(PolicyError) as caught:
        if case.is_cases:
            parse_cases(source)
        else:
            parse((source,))
    return caught.value


@pytest.mark.parametrize("case", _cases(), ids=lambda case: case.title)
def test_a_bad_file_is_refused_with_the_way_out(case: _Case) -> None:
    """Each fault is said where it is, as it stands in the table."""
    said = "\n" + render_text(_faults(case).faults)
    assert said.replace("\npolicy.yaml:", "\n").strip("\n") == case.faults


@pytest.mark.parametrize("case", _cases(), ids=lambda case: case.title)
def test_every_fault_has_a_place_a_code_and_printable_words(case: _Case) -> None:
    """Programs get a stable code, terminals no control characters, and editors a line."""
    error = _faults(case)
    assert error.exit_code == 78
    assert error.message == render_text(error.faults)
    for fault in error.faults:
        assert fault.line >= 1
        assert fault.column >= 1
        assert fault.code
        assert fault.severity == "error"
        assert all(part.isprintable() for part in (str(fault), fault.hint))
    assert list(error.faults) == sorted(error.faults, key=lambda fault: (fault.line, fault.column))


def test_the_table_is_complete_enough() -> None:
    """The table names at least sixty mistakes, each once."""
    titles = [case.title for case in _cases()]
    assert len(titles) >= 60
    assert len(titles) == len(set(titles))
