"""Metrics for Prometheus: an unprivileged reader of the status file and /proc, apart from the daemon."""
