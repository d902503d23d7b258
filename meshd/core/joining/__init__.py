"""How a stranger becomes a member: tokens, pasted envelopes and calls, on both sides."""
