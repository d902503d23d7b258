"""The graph of links: whom to have as a neighbor, who lives, how records and envelopes get everywhere."""
