"""The parts of the demo: what is sent, a worker process to send it to, and what became of it."""
