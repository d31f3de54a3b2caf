"""Errors that users read."""


class OomguardError(Exception):
    """An error that a user can fix: what failed and where, and what to do.

    `exit_code` is the exit code of `__main__`: 1 something failed, 2 usage, 78 bad policy.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    @property
    def for_stderr(self) -> str:
        """The message, and the hint indented below it."""
        return f"oomguard: {self.message}" + (f"\n  {self.hint}" if self.hint else "")


class UsageError(OomguardError):
    """A command line that cannot work."""

    exit_code = 2
