"""The DCS service over HTTP: endings are typed by evidence, nothing of the transport leaves this room."""

import sys

# httpx brings its own command line along if click and rich are there: memory and time of every start, for nothing.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]  # what cannot be imported is left out
