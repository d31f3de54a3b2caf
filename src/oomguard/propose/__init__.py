"""Proposals: what a host wants, and what other tools were configured to do, as a policy."""
