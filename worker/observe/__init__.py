"""Logging, metrics, tracing, redaction, and the one observer that all rooms report to."""
