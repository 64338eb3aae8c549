"""The way of one delivery: parse, handle, settle. Knows its collaborators only as Protocols."""
