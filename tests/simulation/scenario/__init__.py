"""Scenarios: what senders, DCS and faults do in a run."""
