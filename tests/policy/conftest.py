"""Policy files on disk, as the loader wants them: ours, and writable by nobody else."""

import os
from typing import TYPE_CHECKING, Protocol

import pytest

from oomguard.policy.source import Source, Sources

if TYPE_CHECKING:
    from pathlib import Path


class Install(Protocol):
    """Writes `policy.yaml`, and drop-ins by their names; returns the path of the former."""

    def __call__(self, text: str | bytes, **drop_ins: str) -> str:
        """Write the files anew."""


@pytest.fixture
def install(tmp_path: "Path") -> Install:
    """Return a function that writes a policy and its drop-ins into an empty folder."""

    def write(path: "Path", text: str | bytes) -> None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        path.chmod(0o644)

    def install(text: str | bytes, **drop_ins: str) -> str:
        write(tmp_path / "policy.yaml", text)
        if drop_ins:
            folder = tmp_path / "policy.d"
            folder.mkdir()
            folder.chmod(0o755)
            for name, drop_in in drop_ins.items():
                write(folder / f"{name}.yaml", drop_in)
        return str(tmp_path / "policy.yaml")

    return install


def sources(*texts: str | bytes) -> Sources:
    """Return texts as the sources `0.yaml`, `1.yaml`... of one folder, as if they had been read."""
    contents = (text if isinstance(text, bytes) else text.encode() for text in texts)
    return tuple(Source(f"{number}.yaml", content) for number, content in enumerate(contents))


def layered(*texts: str) -> Sources:
    """Return texts as the sources `0.yaml`, `1.yaml`... each of a layer of its own."""
    return tuple(source._replace(layer=layer) for layer, source in enumerate(sources(*texts)))


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
