"""The status of a daemon that has nothing to do."""

from oomguard.report.status_file import FORMAT, NO_PRESSURE, OutcomeCounts, PolicyStatus, StatusFile

IDLE = StatusFile(
    format=FORMAT,
    version="9.9",
    pid=10,
    start_time_ticks=1,
    started_at=0.0,
    written_at=0.0,
    written_monotonic=0.0,
    policy=PolicyStatus("/etc/x.yaml", ("/etc/x.yaml",), "abc", 0, 1.5, 60, ()),
    sysctls=(),
    rules=(),
    processes_held=0,
    outcomes=OutcomeCounts(0, 0, 0, 0, 0),
    changes=(),
    complaints=(),
    kills=(),
    contended=(),
    limits=(),
    still_raised=(),
    recent=(),
    events=True,
    watches=0,
    passes=1,
    losses=0,
    throttled=False,
    committed_peak_kib=0,
    log_entries_lost=0,
    pressure=NO_PRESSURE,
    last_kills=(),
)
