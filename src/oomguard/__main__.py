"""Entry point of `oomguard` and `python -m oomguard`."""


def main() -> int:
    """Run one verb."""
    return 0
