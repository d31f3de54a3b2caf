"""Measures how many bytes an adjustment takes in the journal, with a real daemon and a real journald.

    unshare --mount --pid --fork --mount-proc .venv/bin/python tests/docs/journal_volume.py

In namespaces of its own, so neither the host's journal nor its processes are touched.
"""

import json
import os
import shutil
import struct
import subprocess
import sys
import time
from pathlib import Path

JOURNALD = "/usr/lib/systemd/systemd-journald"
PROGRAMS = 400
"""Each has a rule of its own: adjustments of one rule within a second are folded into one entry."""

HEADER = struct.Struct("<136xQQQ")
"""Of a journal file: where its last object begins, how many objects and entries it has (journal-def.h)."""


def used(journal: Path) -> tuple[int, int]:
    """Return the bytes a journal file has filled, and its entries; it is allocated in steps of megabytes."""
    subprocess.run(["journalctl", "--sync"], check=True)
    with journal.open("rb") as file:
        tail, _, entries = HEADER.unpack(file.read(HEADER.size))
    return tail, entries


def main() -> None:
    """Have a daemon adjust 400 programs of 400 names, and look at what journald made of it."""
    if os.getpid() != 1:
        sys.exit(f"it would hide the host's /run: start it in namespaces of its own\n{__doc__}")
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
    settings = Path("/run/systemd/journald.conf.d/volume.conf")
    settings.parent.mkdir(parents=True)
    settings.write_text("[Journal]\nStorage=volatile\nRateLimitBurst=0\n")
    programs = Path("/run/programs")
    programs.mkdir()
    names = [f"program-{number:03}" for number in range(PROGRAMS)]
    shutil.copy("/bin/sleep", programs / "sleep")
    for name in names:
        os.link(programs / "sleep", programs / name)
    policy = Path("/run/policy.yaml")
    policy.write_text("rules:\n" + "".join(f"  - name: {name}\n    oom_score_adj: 300\n" for name in names))
    policy.chmod(0o644)

    with subprocess.Popen([JOURNALD], stderr=subprocess.DEVNULL) as journald:
        while not Path("/run/systemd/journal/socket").exists():
            time.sleep(0.05)
        command = [sys.executable, "-m", "oomguard", "run", "--policy", str(policy)]
        with subprocess.Popen(["systemd-cat", *command]) as daemon:
            while not Path("/run/oomguard/status.json").exists():
                time.sleep(0.05)
            (journal,) = Path("/run/log/journal").glob("*/system.journal")
            bytes_before, entries_before = used(journal)
            started = [subprocess.Popen([programs / name, "3600"]) for name in names]
            while held() < PROGRAMS:
                time.sleep(0.2)
            bytes_after, entries_after = used(journal)
            for process in started:
                process.kill()
                process.wait()
            daemon.terminate()
        journald.terminate()
    entries = entries_after - entries_before
    each = (bytes_after - bytes_before) / entries
    print(f"{entries} entries, {bytes_after - bytes_before} bytes in the journal file: {each:.0f} bytes each")


def held() -> int:
    """Return how many processes the daemon keeps."""
    return int(json.loads(Path("/run/oomguard/status.json").read_text())["processes_held"])


if __name__ == "__main__":
    main()
