"""The control socket: how people and programs on this machine talk to the daemon.

JSON-RPC 2.0, one object a line, over a Unix socket; ``socat - UNIX:/run/meshd/meshd.sock`` is a client.

``methods`` is the one table (names, parameters, results, permissions, texts), ``shapes`` the objects in it. ``jsonrpc``
splits and checks lines for both ends and does no I/O. ``encodings`` says how bytes and times look in JSON. These four
import only the standard library, and quickly, because ``meshctl`` starts with them. ``document`` writes
``docs/control-api.md``. ``parameters`` checks a request against the table, ``backend`` is what the daemon has to offer,
``access`` decides who may do what, ``listeners`` opens the socket, ``server`` serves it, and
``watchers`` feeds those who watch.
"""
