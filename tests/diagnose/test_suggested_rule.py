"""The rule to paste for a process: it matches that process, whatever it is called."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from oomguard.core.match import Matcher, first_unmet
from oomguard.core.process import Identity, Process
from oomguard.diagnose.explain import name_pattern, rule_for
from oomguard.policy.load import Loaded, parse
from oomguard.policy.source import Source

_COMMS = st.binary(min_size=1, max_size=15).filter(lambda comm: 0 not in comm)
_TRICKY = st.text(
    "ab .*?[]!^$|(){},\\/'\"`#:&-+=@%~\t\n\x1b\x7f\x85\xa0\u200b\u2019\u2028é", min_size=1, max_size=15
)


def _process(
    comm: bytes, uid: int = 0, *, in_container: bool = False, arguments: tuple[bytes, ...] = ()
) -> Process:
    return Process(Identity(9, 1), comm, uid=uid, in_container=in_container, arguments=arguments)


def _loaded(rule: str) -> Loaded:
    return parse((Source("p", f"rules:\n  {rule}\n".encode()),))


def _assert_matches(process: Process) -> None:
    policy, warnings = _loaded(rule_for(process))
    (rule,) = policy.rules
    assert first_unmet(rule, process) is None
    matcher = Matcher(policy.rules)
    assert next(matcher.matches(process, matcher.candidates(process.comm))) == (rule, None)
    assert all(
        fault.code in {"interpreter-name", "never-matches", "handed-on", "raised-supervisor"}
        for fault in warnings
    )


@given(_COMMS | _TRICKY.map(lambda text: text.encode()[:15]), st.sampled_from([0, 1000]), st.booleans())
@example(b"file:// Content", 0, False)
@example(b"\xff\xfe", 1000, False)
@example(b" padded ", 0, True)
@example(b"   ", 0, False)
@example(b"java -jar x.jar", 0, False)
@example("\u202e\u200b".encode(), 0, False)
@example(b"[celeryd: celer", 0, False)
@example(b"a\\b", 0, False)
@example(b"on", 0, False)
@example(b"~", 0, False)
@example(b"'x'", 0, False)
def test_the_rule_matches_the_process(comm: bytes, uid: int, in_container: bool) -> None:
    """For every name that the kernel can hold, and without a warning about the name."""
    _assert_matches(_process(comm, uid, in_container=in_container))


@given(_COMMS, _COMMS)
def test_the_name_matches_no_other_process(comm: bytes, other: bytes) -> None:
    """Unless some of it is not UTF-8, which a policy cannot spell."""
    try:
        comm.decode()
    except UnicodeDecodeError:
        return
    (rule,) = _loaded(rule_for(_process(comm))).policy.rules
    assert (first_unmet(rule, _process(other)) is None) == (other == comm)


@pytest.mark.parametrize(
    ("process", "rule"),
    [
        (_process(b"worker"), "- {name: worker, oom_score_adj: 300}"),
        (_process(b"worker", 1000), "- {name: worker, user: 1000, oom_score_adj: 300}"),
        (_process(b"worker", in_container=True), "- {name: worker, containers: true, oom_score_adj: 300}"),
        (_process(b"file:// Content"), '- {name: "file:// Content", oom_score_adj: 300}'),
        (_process(b"a\x1b[2J\n"), '- {name: "a\\x1b[[]2J[\\x0a]", oom_score_adj: 300}'),
        (
            _process(b"gnome-keyring-d", arguments=(b"/usr/bin/gnome-keyring-daemon",)),
            "- {name: gnome-keyring-daemon, oom_score_adj: 300}",
        ),
        (_process(b"", 1000), ""),
    ],
)
def test_the_rule_is_short(process: Process, rule: str) -> None:
    """A whole name where the command line has it, brackets and quotes only where they are needed."""
    assert rule_for(process) == rule


def test_a_byte_that_is_not_utf_8_matches_any() -> None:
    """A policy is UTF-8."""
    assert name_pattern(b"a\xff*") == "a?[*]"
