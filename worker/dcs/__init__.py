"""The DCS service over HTTP: endings are typed by evidence, nothing of the transport leaves this room."""
