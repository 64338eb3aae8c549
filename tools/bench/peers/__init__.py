"""The same work in other hands: consume a request, POST it, publish an event that is confirmed, acknowledge.

Each is written as its own documentation shows, and runs in an environment of its own (`requirements-peers.txt`).
Those with a message format of their own are also the sender of their requests: `python -m MODULE COUNT RATE`.
"""
