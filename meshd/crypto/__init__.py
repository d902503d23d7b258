"""Keys, signatures and sealing: what the standards fix, as pure functions over keys that the caller hands in."""
