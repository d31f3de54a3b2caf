"""Notices an edit of the policy, however it is made.

In-place writes, an editor's rename, and the swap of a symbolic link, as Kubernetes does for a ConfigMap, all
cause events in one of the folders on the policy's path. An event only says where to check; the files'
metadata shows whether the policy changed. For a policy that names users, so do the files that define them.
"""

import os
from collections.abc import Iterator

from oomguard.core.policy import USER_FILES, Layer
from oomguard.kernel.inotify import (
    IN_ATTRIB,
    IN_CLOSE_WRITE,
    IN_CREATE,
    IN_DELETE,
    IN_MASK_ADD,
    IN_MOVED_FROM,
    IN_MOVED_TO,
    IN_ONLYDIR,
    OUT_OF_ROOM,
    Inotify,
    shortage,
)
from oomguard.reconcile.policy_cache import Metadata, fingerprint, metadata, policy_files

SETTLE_SECONDS = 0.1
LONGEST_SETTLE_SECONDS = 1.0
"""An edit is a burst of events. It is over when none came for the first of these, or after the second."""

_NAMES = IN_MOVED_TO | IN_MOVED_FROM | IN_CREATE | IN_DELETE | IN_ONLYDIR | IN_MASK_ADD
"""Events of a folder in which a policy folder may appear. Not writes: in /run, users may write to files."""

_FILES = _NAMES | IN_CLOSE_WRITE | IN_ATTRIB
_LINKS = 40
"""Symbolic links followed in a row, as many as the kernel does (MAXSYMLINKS)."""


class PolicyWatch:
    """Watches the layers of a policy. `fileno` is readable when something changed there."""

    def __init__(self, layers: tuple[Layer, ...]) -> None:
        self.layers = tuple([layer._replace(path=os.path.abspath(layer.path)) for layer in layers])
        self._inotify: Inotify | None = None
        self.blind = ""
        """Why some edits cannot be noticed; "" if all can."""
        self.follows_users = False
        """Whether a change of the users of this host counts, too."""
        self.renew()

    def fileno(self) -> int | None:
        """Return the descriptor to wait on, if any; it changes with `renew`, or `has_changed` gets one."""
        return None if self._inotify is None else self._inotify.fileno()

    def renew(self) -> None:
        """Watch the folders as they are now, and remember the files as they are now as unchanged."""
        self.close()
        self._watch_folders()
        self._seen, self._users_seen = fingerprint(self.layers), _users()

    def drain(self) -> None:
        """Discard the waiting events; their content does not matter."""
        assert self._inotify is not None
        self._inotify.read_some()

    def has_changed(self) -> bool:
        """Return whether the files differ from those at the last `renew`."""
        self._watch_folders()  # one may be new, or there is room again; watching one again does nothing
        return self.has_edits() or (self.follows_users and _users() != self._users_seen)

    def has_edits(self) -> bool:
        """Return whether the files of the policy itself differ."""
        return fingerprint(self.layers) != self._seen

    def close(self) -> None:
        """Stop watching."""
        if self._inotify is not None:
            self._inotify.close()
            self._inotify = None

    def _watch_folders(self) -> None:
        self.blind = ""
        try:
            self._inotify = self._inotify or Inotify()
        except OSError as error:
            if error.errno not in OUT_OF_ROOM:
                raise
            self.blind = shortage(error)
            return
        for folder, mask in set(self._folders()):
            try:
                self._inotify.add_watch(folder, mask)
            except OSError as error:  # a missing folder has a parent that exists
                if error.errno in OUT_OF_ROOM:
                    self.blind = shortage(error)

    def _folders(self) -> Iterator[tuple[str, int]]:
        for path, is_folder in self.layers:
            if is_folder:
                yield path, _FILES
                yield from ((folder, _NAMES) for folder in _folders_through(path))
            else:
                yield from ((folder, _FILES) for folder in _folders_through(path))
        for path in filter(os.path.islink, policy_files(self.layers)):  # others are where the layer is
            yield from ((folder, _FILES) for folder in _folders_through(path))
        for path in USER_FILES:
            yield from ((folder, _FILES) for folder in _folders_through(path))


def _users() -> list[Metadata | None]:
    """Return the metadata of the files that define users."""
    return [metadata(path) for path in USER_FILES]


def _folders_through(path: str) -> Iterator[str]:
    """Yield the folder of `path`, and each folder in which a link on the way to it could be replaced."""
    for _ in range(_LINKS):
        if os.path.normpath(path) == os.devnull:
            return  # a mask: everybody writes to /dev/null
        yield os.path.dirname(path)
        link = _first_link(path)
        if not link:
            return
        folder = os.path.dirname(link)
        yield folder
        try:
            path = os.path.join(folder, os.readlink(link)) + path[len(link) :]
        except OSError:
            return  # it was removed just now, which is an event in its folder


def _first_link(path: str) -> str:
    """Return `path` up to its first component that is a symbolic link, "" if there is none."""
    end = 0
    while end >= 0:
        end = path.find("/", end + 1)
        part = path if end < 0 else path[:end]
        if os.path.islink(part):
            return part
    return ""
