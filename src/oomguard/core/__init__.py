"""Pure values and decisions: standard library only, nothing that touches the machine.

Value types here are the `NamedTuple`s of `core.typed`, because the daemon must stay small.
"""
