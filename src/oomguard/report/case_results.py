"""Results of policy tests, as text and as JSON."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from oomguard.core.text import counted, legible, printable


class Difference(NamedTuple):
    """What a case expects, and what was found instead.

    `key` is what was compared: `oom_score_adj`, `rule`, `refused`, or `value` of a sysctl.
    """

    key: str
    expected: str
    found: str


class Compared(NamedTuple):
    """One process or sysctl of a case. `by` is what decides its value, as `name=sshd (file:12)`."""

    what: str
    line: int
    by: str
    differences: tuple[Difference, ...]


class CaseResult(NamedTuple):
    """The result of one case."""

    file: str
    line: int
    title: str
    compared: tuple[Compared, ...]

    @property
    def passed(self) -> bool:
        """Whether everything is as expected."""
        return not any(one.differences for one in self.compared)


def result_lines(results: Iterable[CaseResult]) -> Iterator[str]:
    """Yield the differences, each as a diff, with the line of the case file that expects otherwise."""
    for result in results:
        for one in result.compared:
            if one.differences:
                place = f"{printable(result.file)}:{one.line}"
                yield f"{place}: {legible(result.title)}: {one.what}"
                for difference in one.differences:
                    yield f"    - {difference.key}: {difference.expected}"
                    yield f"    + {difference.key}: {difference.found}"
                yield f"      {one.by}"


def summary(file: str, results: Iterable[CaseResult]) -> str:
    """Return how many cases of a file passed."""
    listed = list(results)
    failed = sum(not result.passed for result in listed)
    checked = counted(sum(len(result.compared) for result in listed), "expectation")
    verdict = f"{counted(failed, 'case')} failed" if failed else "all as expected"
    return f"{printable(file)}: {counted(len(listed), 'case')}, {checked}: {verdict}"


def file_document(file: str, results: Iterable[CaseResult], faults: "list[dict[str, Any]]") -> dict[str, Any]:
    """Return the results of a file, or its faults as `check --json` has them. Keys are stable."""
    return {"file": printable(file), "cases": [_case_document(one) for one in results], "faults": faults}


def _case_document(result: CaseResult) -> dict[str, Any]:
    return {
        "line": result.line,
        "case": result.title,
        "passed": result.passed,
        "compared": [
            one._asdict() | {"differences": [difference._asdict() for difference in one.differences]}
            for one in result.compared
        ],
    }
