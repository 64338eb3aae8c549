"""The check-up: what can be found out about the worker's surroundings without changing anything."""
