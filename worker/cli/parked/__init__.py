"""`dcs-worker parked`: requests that need a person, looked at, sent again, dropped, exported."""
