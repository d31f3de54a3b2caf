"""Oomguard as an administrator sees it: installed by its installer, driven through files and systemctl."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from oomguard.daemon.ceiling import CAPACITY_SECONDS

from .guest import Completed, Guest, GuestError, Record

INSTALLER = "/media/oomguard/tree/systemd/install.sh"
WHEELS = "/media/oomguard/wheels"
COMMAND = "/usr/bin/oomguard"
POLICY = "/etc/oomguard.yaml"
SHIPPED_POLICY = "/usr/share/oomguard/oomguard.yaml"
DROP_INS = "/etc/oomguard.d"
VENDOR = "/usr/lib/oomguard.d"
STATUS = "/run/oomguard/status.json"
UNIT = "oomguard.service"
UNIT_DROP_IN = "/run/systemd/system/oomguard.service.d/scenario.conf"

INSTALL_TIMEOUT_SECONDS = 900.0
CONVERGE_TIMEOUT_SECONDS = 300.0
"""Not how fast it must be: an emulated pass can reach the ceiling on CPU time, and pause for a minute."""


@dataclass(frozen=True, slots=True)
class Service:
    """The program in one guest."""

    vm: Guest

    # Installing

    def install(self, *options: str) -> Completed:
        """Run the installer as the administrator of a host without a network would."""
        command = ["sh", INSTALLER, "--wheels", WHEELS, *options]
        return self.vm.run(command, timeout_seconds=INSTALL_TIMEOUT_SECONDS)

    def uninstall(self) -> Completed:
        """Take the program out again; the policy stays."""
        command = ["sh", INSTALLER, "--uninstall"]
        return self.vm.run(command, timeout_seconds=INSTALL_TIMEOUT_SECONDS)

    @property
    def is_active(self) -> bool:
        """Whether systemd calls the service active."""
        return self.vm.run(["systemctl", "is-active", "--quiet", UNIT], check=False).code == 0

    @property
    def main_pid(self) -> int:
        """The daemon's pid as systemd knows it; 0 while there is none."""
        return int(self.vm.run(["systemctl", "show", "--property=MainPID", "--value", UNIT]).stdout)

    def cpu_ticks(self) -> int:
        """Return how much processor time the daemon has used, in hundredths of a second."""
        fields = self.vm.get(f"/proc/{self.status()['pid']}/stat").decode().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    def ensure_installed(self) -> None:
        """Have it run with the policy as shipped: start it where it is installed, else install it."""
        if self.is_active:
            return
        self.vm.run(f"rm -rf {POLICY} {DROP_INS}")
        start = (
            f"cp -a {SHIPPED_POLICY} {POLICY} && mkdir {DROP_INS} && systemctl --quiet enable --now {UNIT}"
        )
        if self.vm.run(f"test -e {COMMAND} && {start}", check=False).code != 0:
            self.install()

    def reset(self, cpu_ticks_before: int = 0) -> None:
        """Go back to the policy as shipped, and wait until every value is as that one asks for.

        A daemon that used much of its CPU time since `cpu_ticks_before` is restarted: an emulated one would
        pay for that during the next scenario, by pauses of a minute and more.
        """
        tidy = f"rm -f {DROP_INS}/*.yaml /run/oomguard.d/*.yaml; cp -a {SHIPPED_POLICY} {POLICY}"
        if self.vm.run(f"test -e {COMMAND} && {{ {tidy}; }}", check=False).code != 0:
            return  # the scenario uninstalled it
        try:
            spent = self.cpu_ticks() - cpu_ticks_before
        except GuestError:
            spent = sys.maxsize  # there is no status, or no such process
        if spent > 100 * CAPACITY_SECONDS / 3:
            self.restart()
            return
        since = self.vm.now()
        self.hang_up()
        self.wait_for_status(lambda now: now["policy"]["loaded_at"] > since, "policy loaded")
        self._have_a_pass()  # that after loading may have ended unseen

    # The unit

    def restart(self) -> None:
        """Restart the service and wait until it keeps its policy."""
        self.vm.run(f"systemctl reset-failed {UNIT}; systemctl restart {UNIT}")

    def wait_for_restart(self, old_pid: int) -> None:
        """Wait until systemd has another process instead, which keeps the policy."""
        self.vm.wait_until(
            f"pid=$(systemctl show -P MainPID {UNIT}); test $pid != 0 && test $pid != {old_pid} "
            f"&& systemctl is-active --quiet {UNIT}",
            timeout_seconds=CONVERGE_TIMEOUT_SECONDS,
            describe=f"a daemon instead of {old_pid}",
        )

    @contextmanager
    def unit_settings(self, *lines: str) -> Iterator[None]:
        """Restart the service with other settings in its [Service] section; and again without."""
        self.vm.put(UNIT_DROP_IN, "\n".join(["[Service]", *lines, ""]))
        try:
            self.vm.run("systemctl daemon-reload")
            self.restart()
            yield
        finally:
            if self.vm.is_alive:
                self.vm.run(f"rm -r {UNIT_DROP_IN.rpartition('/')[0]} && systemctl daemon-reload")
                self.restart()

    # The policy

    def write_policy(self, text: str) -> None:
        """Replace /etc/oomguard.yaml; the daemon notices by itself."""
        self.vm.put(POLICY, text, mode=0o644)

    def apply_policy(self, text: str) -> None:
        """Replace /etc/oomguard.yaml, and wait until it is in force."""
        since = self.vm.now()
        self.write_policy(text)
        self.wait_for_event("policy-loaded", since=since)

    def reload(self) -> None:
        """Ask for the policy to be read again."""
        self.vm.run(["systemctl", "reload", UNIT])

    def hang_up(self) -> None:
        """Reload by sending SIGHUP: in an emulated guest, `systemctl reload` takes seconds."""
        self.vm.run(["kill", "-HUP", str(self.status()["pid"])])

    # What it says

    def status(self) -> dict[str, Any]:
        """Read the status file."""
        content: dict[str, Any] = json.loads(self.vm.get(STATUS))
        return content

    def log(self, *, since: float | None = None) -> list[Record]:
        """Return what the service itself wrote to the journal."""
        return self.vm.journal(f"_SYSTEMD_UNIT={UNIT}", since=since)

    def events(self, *names: str, since: float) -> list[Record]:
        """Return the entries of these events."""
        return [entry for entry in self.log(since=since) if entry.get("OOMGUARD_EVENT") in names]

    def wait_for_event(self, event: str, *, since: float, message: str = "") -> None:
        """Wait until the service has logged an event of that name, with a message that contains `message`."""
        self.vm.wait_for(
            lambda: [
                str(entry["MESSAGE"])
                for entry in self.vm.streamed(since=since)
                if (entry.get("_SYSTEMD_UNIT"), entry.get("OOMGUARD_EVENT")) == (UNIT, event)
            ],
            lambda messages: any(message in one for one in messages),
            f"the event {event} in the journal: {message or 'any'}",
            timeout_seconds=CONVERGE_TIMEOUT_SECONDS,
        )

    def wait_for_passes(self, count: int) -> None:
        """Have `count` more passes made, by asking for them, and wait for their end."""
        for _ in range(count + 1):  # the first may have begun before
            self._have_a_pass()

    def _have_a_pass(self) -> None:
        """Ask for a pass, and wait until it has ended: an unchanged policy is not read again."""
        before = self.status()["passes"]
        self.hang_up()
        self.wait_for_status(lambda now: now["passes"] > before, "a pass")

    def wait_for_status(self, is_so: Callable[[dict[str, Any]], bool], what: str) -> None:
        """Wait until the status file is as `is_so` asks."""
        self.vm.wait_for(self.status, is_so, what, timeout_seconds=CONVERGE_TIMEOUT_SECONDS)

    def wait_for_value(self, path: str, value: int) -> None:
        """Wait until a file of /proc holds `value`."""
        self.vm.wait_for(
            lambda: int(self.vm.get(path)),
            lambda found: found == value,
            f"{path} to become {value}",
            timeout_seconds=CONVERGE_TIMEOUT_SECONDS,
        )
