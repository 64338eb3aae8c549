"""What development and demonstration need beside the worker: the DCS stand-in, a private broker node, the demo."""
