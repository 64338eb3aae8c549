"""The commands: each says what is wanted, and leaves the doing to the rooms."""
