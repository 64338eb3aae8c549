"""What development and demonstration need beside the worker: the fake DCS, a private broker node, the demo."""
