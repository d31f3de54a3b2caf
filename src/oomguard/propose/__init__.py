"""Suggested policies, from this host or from the settings of other tools."""
