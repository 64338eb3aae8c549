"""`dcs-worker doctor`: checks of configuration, broker, Redis, DCS and HTTP port that change nothing."""
