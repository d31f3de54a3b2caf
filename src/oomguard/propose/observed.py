"""What `advise` reads of this host."""

from collections.abc import Iterator

from oomguard.core.errors import OomguardError
from oomguard.core.overcommit import KNOBS
from oomguard.core.process import UnknownFactError, full_name
from oomguard.core.sysctl import KUBELET
from oomguard.core.text import printable
from oomguard.core.trust import is_of_services
from oomguard.kernel.proc_files import GONE, HIDDEN
from oomguard.kernel.procfs import Procfs
from oomguard.kernel.sysctl_files import observe_memory, read_sysctl
from oomguard.policy.users import first_person_uid, user_name
from oomguard.propose.advice import MAPS, PANIC, PANIC_ON_OOM, HostFacts, Running

_SYSCTLS = dict.fromkeys((*KNOBS, PANIC_ON_OOM, PANIC, *KUBELET, MAPS))


def observe_facts(procfs: Procfs) -> HostFacts:
    """Return memory, sysctls and running programs. OomguardError: this /proc has no meminfo."""
    memory = observe_memory(procfs)
    if memory is None:
        raise OomguardError(
            f"{printable(procfs.root)}/meminfo is missing, and advise needs it",
            hint="proc is mounted with subset=pid; use --proc with another mount",
        )
    sysctls = {name: value for name in _SYSCTLS if (value := read_sysctl(procfs, name)) is not None}
    return HostFacts(memory, sysctls, tuple(_running(procfs)))


def _running(procfs: Procfs) -> Iterator[Running]:
    first_person = first_person_uid()
    for handle in procfs.processes():
        try:
            if handle.stat.is_kernel_thread or handle.stat.is_zombie:
                continue
            name = full_name(handle.comm, handle.arguments).decode("utf-8", "replace")
            cmdline = b" ".join(handle.arguments).decode("utf-8", "replace")
            is_service = is_of_services(handle, first_person)
            yield Running(
                name,
                user_name(handle.uid) or str(handle.uid),
                is_service,
                handle.in_container is not False,
                cmdline,
            )
        except (*GONE, HIDDEN, UnknownFactError):
            continue
