"""What this process may do beyond its user, and what it costs where it may not."""

CAP_DAC_OVERRIDE = 1
CAP_IPC_LOCK = 14
CAP_SYS_PTRACE = 19
CAP_SYS_RESOURCE = 24
"""Numbers of include/uapi/linux/capability.h."""


def parse_effective(status: bytes) -> int:
    """Return the effective set, as a mask, out of /proc/PID/status."""
    start = status.index(b"\nCapEff:\t") + 9
    return int(status[start : status.index(b"\n", start)], 16)


def has(effective: int, capability: int) -> bool:
    """Tell whether a set holds a capability."""
    return bool(effective >> capability & 1)
