"""Case files: what a case can say."""

from oomguard.core.process import Process
from oomguard.policy.cases.case_file import parse_cases
from oomguard.policy.source import Source

_CASE = b"""\
policy: {rules: [{name: x, oom_score_adj: 1}]}
users: {alice: 1000}
cases:
- case: everything that can be said of a process
  processes:
  - {name: parent}
  - {name: x, expect: 1, pid: 812, parent: parent, cmdline: x -y, user: alice, saved_user: root,
     dynamic_user: true, cgroup: /docker/4f53, delegated: true, exe: /bin/x, container: true,
     user_namespace: true, oom_score_adj: 5}
"""


def test_a_case_can_give_every_fact_of_a_process() -> None:
    """A rule on a fact that no case can give could not be tested."""
    (case,) = parse_cases(Source("a.yaml", _CASE))
    process, default = case.actors[1].process, Process._field_defaults
    assert [name for name in Process._fields if getattr(process, name) == default.get(name)] == []
