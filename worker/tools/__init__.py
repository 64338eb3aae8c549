"""Tools beside the worker: fake DCS, private servers, demo, health check."""
