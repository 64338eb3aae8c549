"""The simulated world: event loop, broker, DCS, claims, and the replicas that run in it."""
