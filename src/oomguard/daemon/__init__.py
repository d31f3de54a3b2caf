"""The service: event loop, reload, readiness, watchdog, shutdown."""
