"""What is seen of the worker from outside: metrics and log lines. Told facts; never asked."""
