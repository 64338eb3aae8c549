"""Logging, metrics, tracing, and the one observer that all rooms report to."""
