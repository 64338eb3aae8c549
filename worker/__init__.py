"""A worker that creates DCS online data migration tasks, exactly one per request."""

__version__ = "0.1.0"
