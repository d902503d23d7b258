"""Everything that decides: events and the time in, commands out. No clock, randomness, I/O, logging or ``await``."""
