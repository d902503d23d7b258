"""Everything that decides. Synchronous, without clock, randomness, I/O or logging: events and the time in, commands out."""
