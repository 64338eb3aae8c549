"""The commands of `dcs-worker`: options, output and exit statuses; the rooms below do the work."""
