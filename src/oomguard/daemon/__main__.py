"""`python -m oomguard.daemon POLICY STATE_DIR PROC`: what `oomguard run` becomes."""

import sys
from contextlib import closing

from oomguard.core.errors import OomguardError
from oomguard.daemon.privileges import require_descriptors
from oomguard.daemon.service import Service
from oomguard.kernel.own import use_small_pages
from oomguard.kernel.procfs import Procfs
from oomguard.reconcile.state_folder import open_state_folder
from oomguard.report import streams
from oomguard.report.journal import open_sink


def main() -> int:
    """Run until SIGTERM; return the exit code."""
    streams.set_up()
    policy_path, state_dir, proc_root = sys.argv[1:]
    return run(policy_path, state_dir, proc_root)


def run(policy_path: str, state_dir: str, proc_root: str) -> int:
    """Do the same with these places, and standard streams that are set up."""
    use_small_pages()
    try:
        procfs = Procfs(proc_root)
        require_descriptors()
        with closing(open_state_folder(state_dir)) as folder:  # a thread that hangs may outlive this one
            folder.lock()
            Service(policy_path, folder, procfs, open_sink()).run()
    except OomguardError as error:
        print(error.for_stderr, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
