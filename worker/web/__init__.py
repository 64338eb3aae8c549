"""Health, metrics and status page over HTTP."""
