"""Claims and outcomes that the replicas share through Redis."""
