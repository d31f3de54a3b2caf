"""Answers about a host that take more than one part to find."""
