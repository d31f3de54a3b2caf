"""Pure values and decisions: standard library only, nothing that touches the machine.

Value types here are `NamedTuple`s, not dataclasses: the daemon keeps them in memory, and
importing `dataclasses` pulls in `inspect`, `ast` and `dis`, 1.6 MiB in a process of 11.
"""
