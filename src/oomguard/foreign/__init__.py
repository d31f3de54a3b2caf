"""The configuration of other programs, read as those programs read it."""
