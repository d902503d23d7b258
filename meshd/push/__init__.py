"""Web Push: the sender (application server) and the receivers (user agent)."""
