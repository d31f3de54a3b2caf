"""The OOM killer: its choice, its reports, and what they say. Pure, as `core` is."""
