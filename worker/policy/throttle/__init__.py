"""Decisions of the throttle: pure, with time and random_unit as arguments. `worker.pipeline.throttle` applies them."""
