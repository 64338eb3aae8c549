"""The demo: planned requests, a worker process, tracking of outcomes, output."""
