"""A rule to paste into the policy, for a process that no rule matches."""

from oomguard.core.process import COMM_LENGTH, Facts, UnknownFactError, full_name
from oomguard.policy.lint.lookalike import in_brackets, lookalike
from oomguard.policy.regex_to_glob import literal
from oomguard.policy.scalars import quoted

_EXAMPLE = 300


def rule_for(process: Facts, value: int = _EXAMPLE) -> str:
    """Return one rule as YAML that matches the process by its name and user, "" if its name is empty."""
    if not process.comm:
        return ""
    conditions = [f"name: {quoted(name_pattern(_whole_name(process)))}"]
    if process.uid != 0:
        conditions.append(f"user: {process.uid}")
    if process.in_container:
        conditions.append("containers: true")
    return f"- {{{', '.join(conditions)}, oom_score_adj: {value}}}"


def name_pattern(name: bytes) -> str:
    """Return a `name` for a policy that matches a process name, and nothing else if that is UTF-8.

    A byte that is not UTF-8 becomes a `?`.
    """
    text = name.decode("utf-8", "surrogateescape")
    start, end = len(text) - len(text.lstrip()), len(text.rstrip())
    pattern = (
        "".join(f"[{one}]" for one in text[:start])
        + "".join("?" if "\udc80" <= one <= "\udcff" else literal(one) for one in text[start:end])
        + "".join(f"[{one}]" for one in text[max(start, end) :])
    )
    return in_brackets(pattern) if lookalike(pattern) else pattern


def _whole_name(process: Facts) -> bytes:
    """Return the full name, if the command line shows what the kernel cut off."""
    comm = process.comm
    if len(comm) < COMM_LENGTH:
        return comm
    try:
        whole = full_name(comm, process.arguments)
    except UnknownFactError:
        return comm
    return whole if len(whole) < 64 and whole.isascii() and b" " not in whole else comm
