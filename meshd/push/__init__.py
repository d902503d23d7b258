"""Web Push, both roles of a node: ``sender`` (application server) and ``user_agent`` (receiving), and our ``service``.

``sender`` POSTs under ``endpoint_policy`` (pure) through ``checked_connect``; ``user_agent`` speaks ``autopush`` (pure)
over ``websocket``. When to push, to whom, and what each answer means is ``meshd.core``'s business.
"""
