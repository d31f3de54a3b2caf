"""The service: event loop, passes, reload, drift, kills, warnings, status, readiness, watchdog, shutdown."""
