"""Decides: pure and synchronous; time and chance are arguments."""
