#!/usr/bin/env python3
"""Builds Debian root images for the virtual machine suite, and keeps them.

    tests/vm/image.py [SUITE...]

A suite with `+containers` behind it has a container engine, too.

An image is a folder with `vmlinuz`, `initrd` and `root.img`; its name holds a digest of all that went into
it, so a changed recipe makes a new image and an unchanged one is never built twice. Guests boot snapshots
and can not spoil it. Building needs root (mmdebstrap, and file owners in the image); using one does not.
"""

import fcntl
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

SUITES = ("bookworm", "trixie", "forky")
"""Debian releases the suite knows: Linux 6.1 with systemd 252, 6.12 with 257, 7.x with 262 (in 2026)."""

PACKAGES = (
    "systemd-sysv", "udev", "dbus", "libpam-systemd", "kmod", "procps", "iproute2", "libcap2-bin",
    "openssh-server", "openssh-client", "curl", "initramfs-tools", "linux-image-cloud-amd64", "python3",
    "python3-venv",
)  # fmt: skip
"""No python3-yaml or python3-pydantic: oomguard has to bring its own."""

CONTAINERS = "+containers"
ENGINE = ("podman", "crun", "catatonit", "netavark", "uidmap", "dbus-user-session")
"""What a suite with containers has more; 100 MB that no other scenario pays for."""

MASKED_UNITS = (
    "getty.target", "apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer",
    "e2scrub_reap.service", "fstrim.timer", "systemd-binfmt.service",
)  # fmt: skip
"""What costs seconds of an emulated boot and tells nothing about oomguard."""

AGENT_UNITS = ("oomguard-vm-agent.service", "oomguard-vm-journal.service")

KERNEL_OPTIONS = ("PROC_EVENTS", "MEMCG", "CGROUPS", "SYSCTL", "INOTIFY_USER", "VIRTIO_CONSOLE", "VIRTIO_BLK")
"""A kernel package without one of these can not carry the suite, and the build says so."""

ROOTFS = Path(__file__).with_name("rootfs")
SPARE_MIB = 1024
"""Free space in the image for the installation, the journal and the scenarios."""

FILESYSTEM_UUID = "6f6f6d67-7561-7264-8000-000000000001"


class ImageError(Exception):
    """An image that can not be built here; the text says what is missing."""


def cache_folder() -> Path:
    """Where images and downloaded wheels stay between runs."""
    chosen = os.environ.get("OOMGUARD_VM_CACHE")
    return Path(chosen) if chosen else Path.home() / ".cache" / "oomguard-vm"


def locate(suite: str) -> Path:
    """Return the folder of the suite's image, whether it has been built or not."""
    parts = [suite, packages(suite), MASKED_UNITS, AGENT_UNITS, SPARE_MIB]
    recipe = hashlib.sha256(json.dumps(parts).encode())
    recipe.update(Path(__file__).read_bytes())
    for path in sorted(ROOTFS.rglob("*")):
        recipe.update(str(path.relative_to(ROOTFS)).encode())
        if path.is_file():
            recipe.update(path.read_bytes())
    return cache_folder() / f"{suite}-{recipe.hexdigest()[:12]}"


def packages(suite: str) -> tuple[str, ...]:
    """Return what is installed in the suite's image."""
    return PACKAGES + ENGINE if suite.endswith(CONTAINERS) else PACKAGES


def is_built(folder: Path) -> bool:
    """Tell by the root image, which is moved in last, whether all of the image is there."""
    return (folder / "root.img").exists()


def build(suite: str) -> Path:
    """Build the suite's image unless it is there; return its folder.

    Raises:
        ImageError: a tool or the right to use it is missing, or the kernel lacks an option.

    """
    folder = locate(suite)
    if is_built(folder):
        return folder
    require_tools()
    folder.mkdir(parents=True, exist_ok=True)
    with alone_with(folder), tempfile.TemporaryDirectory(dir=folder) as name:
        if is_built(folder):
            return folder
        work = Path(name)
        work.chmod(0o755)  # apt's sandbox user reads the sources in it
        root = bootstrap(suite, work)
        kernel = newest(root / "boot", "vmlinuz-")
        require_kernel_options(root / "boot" / kernel.name.replace("vmlinuz", "config"))
        make_filesystem(root, work / "root.img", spare_mib=SPARE_MIB)
        shutil.copy(kernel, folder / "vmlinuz")
        shutil.copy(newest(root / "boot", "initrd.img-"), folder / "initrd")
        (work / "root.img").rename(folder / "root.img")
    return folder


@contextmanager
def alone_with(folder: Path) -> Iterator[None]:
    """Wait until no other run is making this folder: the shards of a suite start together."""
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def require_tools() -> None:
    """Raise ImageError with all that is missing, not only with the first."""
    missing = [tool for tool in ("mmdebstrap", "mke2fs", "tar") if shutil.which(tool) is None]
    if missing:
        names = ", ".join(missing)
        raise ImageError(f"no root image yet, and {names} missing: run tests/vm/prepare.sh as root")
    if os.geteuid() != 0:
        raise ImageError("no root image yet, and building one needs root: run tests/vm/prepare.sh as root")


def bootstrap(suite: str, work: Path) -> Path:
    """Unpack a Debian with our files in it below `work`; return its root."""
    root, archive = work / "root", work / "root.tar"
    add_files = f'cp -r --preserve=mode "{ROOTFS}/." "$1"'
    # Twice: the initrd is made before the customize hooks, and packages bring their own fstab and hosts.
    hooks = [
        f"--essential-hook={add_files}",
        f"--customize-hook={add_files}",
        '--customize-hook=mkdir -p "$1/media/oomguard"',
        '--customize-hook=chroot "$1" useradd --create-home --shell /bin/bash alice',
        f'--customize-hook=systemctl --quiet --root="$1" mask {" ".join(MASKED_UNITS)}',
        f'--customize-hook=systemctl --quiet --root="$1" enable {" ".join(AGENT_UNITS)}',
    ]
    release = suite.removesuffix(CONTAINERS)
    options = [
        "--quiet",
        "--variant=minbase",
        "--format=tar",
        f"--include={','.join(packages(suite))}",
        '--aptopt=Acquire::Check-Valid-Until "false"',  # a mirror may keep a Release file past its date
    ]
    command: list[str | Path] = [
        "mmdebstrap",
        *options,
        *hooks,
        release,
        archive,
        *apt_sources(release, work),
    ]
    subprocess.run(command, check=True)
    root.mkdir()
    subprocess.run(["tar", "--extract", "--xattrs", f"--directory={root}", f"--file={archive}"], check=True)
    # An empty one would make every boot a first boot.
    (root / "etc/machine-id").write_text(FILESYSTEM_UUID.replace("-", "") + "\n")
    return root


def apt_sources(suite: str, work: Path) -> list[Path]:
    """Return the host's own mirrors, for `suite`; on another distribution none, for mmdebstrap's default."""
    host = Path("/etc/apt/sources.list.d/debian.sources")
    codename = platform.freedesktop_os_release().get("VERSION_CODENAME")
    if codename is None or not host.exists():
        return []
    sources = work / "vm.sources"
    sources.write_text(host.read_text().replace(codename, suite))
    return [sources]


def newest(folder: Path, prefix: str) -> Path:
    """Return the file of the highest version (there is one, unless the kernel was replaced meanwhile)."""
    return max(folder.glob(f"{prefix}*"))


def require_kernel_options(config: Path) -> None:
    """Raise ImageError unless the kernel was configured for what the scenarios look at."""
    lines = set(config.read_text().splitlines())
    missing = [name for name in KERNEL_OPTIONS if not {f"CONFIG_{name}=y", f"CONFIG_{name}=m"} & lines]
    if missing:
        raise ImageError(f"{config.name} lacks {', '.join(missing)}: use linux-image-amd64 instead")


def make_filesystem(folder: Path, target: Path, *, spare_mib: int = 0) -> None:
    """Write an ext4 file system image that holds `folder`, with room to spare."""
    files = [path.lstat() for path in folder.rglob("*")]
    blocks = sum(status.st_size // 4096 + 1 for status in files)
    size_kib = blocks * 4 * 11 // 10 + len(files) * 2 + (spare_mib + 4) * 1024
    command: list[str | Path] = [
        "mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-m", "0", "-O", "^has_journal",
        "-U", FILESYSTEM_UUID, "-E", "root_owner=0:0", "-N", str(2 * len(files) + 512),
        "-d", folder, target, f"{size_kib}k",
    ]  # fmt: skip
    target.touch()  # or mke2fs says that it creates it
    subprocess.run(command, check=True)


def main(suites: Sequence[str]) -> int:
    """Build the suites named on the command line."""
    for suite in suites or SUITES[:1]:
        try:
            print(f"{suite}: {build(suite)}", flush=True)
        except ImageError as error:
            print(f"{suite}: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
