"""What the mesh is for: messages, pings and streams from end to end, and the envelopes that carry them."""
