"""What this machine's network lets through: a check that somebody asks for, by STUN (RFC 8489, RFC 5780).

``observations`` is what was seen, ``classification`` says in RFC 5780's words what it means and what to expect (both
pure); ``prober`` asks the servers, over UDP sockets of its own.
"""
