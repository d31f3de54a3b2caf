"""What the verbs read of this host: /proc, the state folder, and the daemon's status file."""

import os
import shlex
import time
from collections.abc import Callable, Hashable
from contextlib import closing, suppress
from functools import cache
from typing import NamedTuple

from oomguard.core.decide import Obstacle
from oomguard.core.errors import OomguardError
from oomguard.core.host import Host
from oomguard.core.overcommit import Peak
from oomguard.core.policy import DEFAULT_PATH, Policy, is_drop_in, layers, policy_option
from oomguard.core.process import Identity
from oomguard.core.sysctl import SYSCTLS
from oomguard.core.text import counted, printable
from oomguard.kernel.hidepid import hides_processes
from oomguard.kernel.host_facts import observe_host
from oomguard.kernel.process_rights import observe_rights, own_rights, see_as
from oomguard.kernel.procfs import Procfs
from oomguard.kernel.slow_reads import patient_reads
from oomguard.policy.fault import PolicyError
from oomguard.reconcile.ledger import Ledger, read_ledger
from oomguard.reconcile.matching import Itself
from oomguard.reconcile.peak_file import PeakFile
from oomguard.reconcile.policy_cache import PolicyCache
from oomguard.reconcile.preview import Preview
from oomguard.reconcile.reconciler import Reconciler
from oomguard.reconcile.state_folder import (
    find_state_folder,
    require_ledger,
    require_state_folder,
    state_dir_option,
)
from oomguard.report.status_file import SIZE_LIMIT, STATUS_FILE, StatusFile
from oomguard.report.status_reader import StatusError, decode_status
from oomguard.report.streams import complain


@cache
def _complain_once(text: str) -> None:
    """Print a warning about a file that a verb reads for several of its answers."""
    complain(text)


class ThisHost(NamedTuple):
    """Where the verbs read: the state folder of a daemon, and a /proc."""

    state_dir: str
    proc: str = "/proc"

    @property
    def options(self) -> str:
        """The options with which another verb reads the same host, "" for the defaults."""
        proc = "" if self.proc == "/proc" else f" --proc {shlex.quote(printable(self.proc))}"
        return state_dir_option(self.state_dir) + proc

    def open_procfs(self) -> Procfs:
        """Open a /proc, with patience for processes that delay their reader."""
        return Procfs(self.proc, patient_reads())

    def facts(self) -> Host:
        """Return the facts of this host."""
        with closing(self.open_procfs()) as procfs:
            return observe_host(procfs)

    def load(self, path: str) -> Policy:
        """Return a policy for this host, as its daemon keeps it if nothing changed since.

        Prints what the host skips of it. PolicyError: it is not valid; if the default is missing, the error
        names what that daemon uses instead.
        """
        host = self.facts()
        policy = self._compiled(path, host)
        if policy is None:
            from oomguard.policy.load import load  # imports pydantic and PyYAML, which takes longest

            try:
                policy, warnings = load(path, host=host, lints=False)
            except PolicyError as error:
                raise self.with_policy_in_use(error, path) from error
            for fault in warnings:
                if fault.code == "empty-file":
                    complain(f"oomguard: {fault.one_line}")
        if policy.skipped:
            complain(f"oomguard: {policy.skipped}")
        return policy

    def with_policy_in_use(self, error: PolicyError, path: str) -> PolicyError:
        """Return the error of a policy; if the default one is missing, with what the daemon uses instead."""
        missing, *others = error.faults
        if missing.code != "missing-file" or path != DEFAULT_PATH:
            return error
        hint = ""
        with suppress(OomguardError), closing(self.open_procfs()) as procfs:  # `check` needs no /proc
            hint = hint_at(policy_in_use(self.find_daemon(procfs)))
        return PolicyError([missing._replace(hint=hint or missing.hint), *others])

    def open_preview(self, policy: Policy, *, needs_ledger: bool = False, warns: bool = True) -> Preview:
        """Return a preview of a policy on this host, which cannot change anything. Close it at the end.

        The rights that count are those of the running daemon, or the caller's if none runs: to write values
        and to read executables.
        With `warns`, prints that original values are missing if this user cannot read the ledger, and that
        the daemon uses another policy if this is the default.
        OomguardError: `needs_ledger`, and there is no state folder, or this user cannot read it.
        """
        procfs = self.open_procfs()
        try:
            ledger = self._ledger(procfs, is_needed=needs_ledger, warns=warns)
        except OomguardError:
            procfs.close()
            raise
        if needs_ledger and warns and ledger.ignored_lines:
            lost = f"{counted(ledger.ignored_lines, 'line')} of {printable(self.state_dir)}/ledger"
            complain(f"oomguard: {lost} cannot be read, so some values cannot be restored")
        daemon = self.find_daemon(procfs)
        used = policy_in_use(daemon)
        if warns and policy.path == DEFAULT_PATH and (hint := hint_at(used)):
            complain(f"oomguard: this is {DEFAULT_PATH}, but {hint}")
        itself = Itself(os.getpid(), None if daemon is None else daemon.identity)
        reconciler = Reconciler(policy, ledger, procfs, itself=itself, promised_peak=self.peak_source())
        rights, contended, denied = own_rights(), frozenset[Hashable](), {}
        if daemon is not None:
            if not needs_ledger:  # a restore does not wait
                contended = frozenset(row.value for row in daemon.contended)
            for one in daemon.complaints:
                if one.result == "denied":
                    denied[one.subject, one.wanted] = Obstacle("denied", one.reason, one.hint)
            if daemon.policy.digest == policy.digest:
                for pid, start_time_ticks, number in daemon.still_raised:
                    if 0 <= number < len(policy.rules):  # the file may be damaged
                        known = ledger.known_of(Identity(pid, start_time_ticks))
                        known.raised_by, known.is_held = number, True
            with suppress(OSError):
                rights = observe_rights(procfs, daemon.identity.pid)
                if not see_as(procfs, daemon.identity.pid) and any(rule.terms.exes for rule in policy.rules):
                    complain(
                        "oomguard: the daemon can read what other users' processes run, this user cannot, so "
                        "rules with exe match too few here\n  run this as root"
                    )
        return Preview(reconciler, rights, contended, denied, policy_in_use=used)

    def warn_of_missing(self, policy: Policy) -> None:
        """Print which sysctls of a policy are skipped because this kernel lacks them."""
        for setting in policy.sysctls:
            if not os.path.lexists(f"{self.proc}/{SYSCTLS[setting.name].path}"):
                complain(f"oomguard: {setting.name} is skipped: this kernel has no such sysctl")

    def peak_source(self) -> Callable[[], Peak | None]:
        """Return a function for the highest Committed_AS of the last days; print why if it cannot be read."""
        file = PeakFile(self.state_dir)
        file.highest()
        if file.trouble and not os.path.isfile(self.state_dir):  # that is an error of its own
            _complain_once(f"oomguard: {file.trouble}")
        return file.highest

    def read_status(self) -> StatusFile | None:
        """Return a daemon's status file, None if there is none. StatusError: it cannot be read."""
        folder = find_state_folder(self.state_dir)
        if folder is None:
            return None
        try:
            raw = folder.read(STATUS_FILE, limit=SIZE_LIMIT)
        except PermissionError as error:
            raise StatusError(
                f"{printable(self.state_dir)}/{STATUS_FILE}: this user cannot read it",
                hint="run as root: the file names processes that /proc hides from other users (hidepid=)",
            ) from error
        finally:
            folder.close()
        return None if raw is None else decode_status(raw, f"{self.state_dir}/{STATUS_FILE}")

    def find_daemon(self, procfs: Procfs) -> StatusFile | None:
        """Return the status of the daemon that runs with this state folder, None if this user sees none."""
        with suppress(OomguardError):
            status = self.read_status()
            if status is not None and procfs.is_alive(status.identity):
                return status
        return None

    def _compiled(self, path: str, host: Host) -> Policy | None:
        """Return the policy that the daemon compiled, if it would not read it again; None for any other."""
        cache = PolicyCache(self.state_dir)
        with suppress(OomguardError, OSError, ValueError):
            return cache.load(cache.key(layers(path), time.time_ns()), host)
        return None

    def _ledger(self, procfs: Procfs, *, is_needed: bool, warns: bool) -> Ledger:
        if is_needed:
            require_state_folder(self.state_dir)
        folder = find_state_folder(self.state_dir)
        if folder is None:
            return Ledger()
        try:
            if is_needed:
                require_ledger(folder)
            return read_ledger(folder, boot_id=procfs.boot_id())
        except PermissionError as error:
            if is_needed:
                raise OomguardError(
                    f"{printable(self.state_dir)}/ledger: this user cannot read it",
                    hint="run as root, or as the user who runs oomguard: the ledger has the original values",
                ) from error
            if warns:
                complain(
                    f"oomguard: {printable(self.state_dir)}/ledger: this user cannot read it; original "
                    "values, and what would be restored, are not shown"
                )
            return Ledger()
        finally:
            folder.close()


def warn_if_hidden(procfs: Procfs) -> bool:
    """Print that /proc hides other users' processes from this user, and return whether it does."""
    is_hidden = hides_processes(procfs)
    if is_hidden:
        complain(
            "oomguard: hidepid= hides other users' processes from this user, so they are missing here\n"
            "  run this as root, or in the group of the mount's gid="
        )
    return is_hidden


def policy_in_use(daemon: StatusFile | None) -> str:
    """Return the policy of a daemon, "" if none runs."""
    return "" if daemon is None else daemon.policy.path


def hint_at(used: str) -> str:
    """Return the hint to add --policy if `used` is the policy of a daemon, and not the default; else ""."""
    if used in ("", DEFAULT_PATH):
        return ""
    return f"the daemon uses {printable(used)}: add{policy_option(used)}"


def has_policy(path: str) -> bool:
    """Return whether there is a policy: a file in any of its layers, or one that cannot be read."""
    for layer in layers(path):
        try:
            if not layer.is_folder:
                os.stat(layer.path)
                return True
            if any(map(is_drop_in, os.listdir(layer.path))):
                return True
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError:
            return True
    return False
