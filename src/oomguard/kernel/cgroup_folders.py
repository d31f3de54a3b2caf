"""Which cgroups only root can have created, by the owners of their folders."""

import errno
import os
from collections.abc import Iterable

from oomguard.core.cgroup import folders_above
from oomguard.kernel.host_file import only_root_writes
from oomguard.kernel.mountinfo import find_cgroups, parse_mounts

_DEPTH_LIMIT = 64
"""Folders looked at: each costs the whole path to it."""


def parse_systemd_mount(lines: Iterable[bytes]) -> str | None:
    """Return where the whole hierarchy that systemd manages is mounted, None if nowhere.

    On cgroup v1 and hybrid hosts that is `name=systemd`, else the unified one, as for `parse_cgroup`.
    """
    found = find_cgroups((one for one in parse_mounts(lines) if one.root == "/"), "name=systemd")
    return None if found is None else found.point


class CgroupFolders:
    """The folders of the hierarchy that systemd manages. `mount` is None if it is not visible."""

    def __init__(self, mount: str | None) -> None:
        self.mount = mount

    def are_roots(self, path: str) -> bool | None:
        """Return whether only root can have created the cgroup `path`, None if that is not visible.

        Anybody who can write to a folder can create cgroups in it, with any name. So root must be the only
        writer of every folder above. Root of a container can nest thousands: None then, too.
        """
        if self.mount is None or path.startswith("/.."):  # outside of our cgroup namespace
            return None
        for depth, folder in enumerate(folders_above(path)):
            if depth >= _DEPTH_LIMIT:
                return None
            try:
                found = os.stat(f"{self.mount}{folder}")
            except OSError as error:
                # Only the owner of a cgroup can create a path that is too long for any call.
                return False if error.errno == errno.ENAMETOOLONG else None
            if not only_root_writes(found):
                return False
        return True

    def take_only_roots(self, path: str) -> bool | None:
        """Return whether only root can move processes into the cgroup `path`, None if that is not visible."""
        return self.are_roots(f"{path}/")

    def of_users_manager(self, uid: int) -> str | None:
        """Return the cgroup of a user's own service manager, None if the user has none."""
        path = f"/user.slice/user-{uid}.slice/user@{uid}.service"
        try:
            return path if self.mount is not None and os.stat(self.mount + path).st_uid == uid else None
        except OSError:
            return None
