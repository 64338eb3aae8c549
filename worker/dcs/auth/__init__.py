"""How calls prove who makes them: a ready token, signatures with access keys, tokens of IAM, keys of the platform."""
