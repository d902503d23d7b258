"""The bytes: how peers, tokens and descriptions look on the way. Pure; every decoder raises only MalformedMessage."""
