"""Pure values and decisions: standard library only, nothing that touches the machine.

- Processes and rules: `process`, `cgroup`, `rule`, `match` (with `name_index`, `name_regex`, `rule_table`),
  `trust`, `protection`, `decide`; for messages `tally`.
- Sysctls: `sysctl`, `sysctl_diff`, `overcommit`, `guard`, `peaks`.
- What is written, and what was there before: `change`, `entry`.
- The policy: `policy`, `serialize`, `host`.
- Memory over time: `sample`, `episode`.

Value types here are the `NamedTuple`s of `core.typed`, because the daemon must stay small.
"""
