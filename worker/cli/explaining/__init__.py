"""The story of one request as a timeline: from a parked message, from an event, wherever it comes from."""
