"""Draw the page of an incident as docs/pictures/incident.png: `python tests/pictures/page.py`.

With Debian's chromium.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))

import incident  # noqa: E402 - needs the path above
from oomguard.report.postmortem_page import TASKS, postmortem_page  # noqa: E402


def main() -> int:
    """Draw it."""
    picture = ROOT / "docs" / "pictures" / "incident.png"
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "page.html"
        page.write_text(postmortem_page([incident.told()], limit=TASKS, where="the journal", notes=[]))
        options = [
            "--headless",
            f"--user-data-dir={folder}/data",
            "--hide-scrollbars",
            "--window-size=940,1345",
        ]
        options += ["--blink-settings=preferredColorScheme=1", f"--screenshot={picture}"]
        options += ["--no-sandbox"] if os.geteuid() == 0 else []
        subprocess.run(["chromium", *options, f"file://{page}"], check=True, timeout=120)
    return 0


if __name__ == "__main__":
    sys.exit(main())
