"""What the worker shows over HTTP: health, metrics, a page for people."""
