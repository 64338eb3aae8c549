"""Checks of the laws after a run."""
