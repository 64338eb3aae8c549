"""Versions of the worker with one law switched off each."""
