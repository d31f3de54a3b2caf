"""A file that survives a reboot. It is ignored if others may have written it."""

import errno
import os

from oomguard.core.errors import OomguardError
from oomguard.reconcile.state_folder import find_state_folder, lasting_folder, open_state_folder


class LastingFile:
    """One file of the daemon that has this state folder."""

    def __init__(self, state_dir: str, name: str) -> None:
        self._folder = lasting_folder(state_dir)
        self._name = name
        self.path = f"{self._folder}/{name}"

    def read(self) -> bytes | None:
        """Return its content, None if it does not exist.

        OSError, OomguardError: it cannot be read; ValueError: others may have written it.
        """
        folder = find_state_folder(self._folder)
        if folder is None:
            return None
        try:
            if not folder.is_ours:
                raise ValueError("others may write to its folder")
            return folder.read(self._name)
        finally:
            folder.close()

    def replace(self, content: bytes, *, mode: int = 0o600) -> str:
        """Replace its content; return why that failed, "" if it did not."""
        try:
            folder = open_state_folder(self._folder)
            try:
                folder.replace(self._name, content, mode=mode)
            finally:
                folder.close()
        except OSError as error:
            return f"{self.path} cannot be written: {os.strerror(error.errno or errno.EIO)}"
        except OomguardError as error:
            return error.message
        return ""
