"""What crosses the wire: requests in, events out, the DCS bodies between them.

Pydantic is the only dependency, so an upstream service can import this package alone.
"""
