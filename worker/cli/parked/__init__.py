"""`dcs-worker parked`: lists, shows, replays, deletes and exports requests that need an operator."""
