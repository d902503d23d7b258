"""The embedded push service: RFC 8030, 8291, 8292 towards senders, autopush's WebSocket protocol towards user agents.

``app.serve`` runs it, in the process of ``meshd-push`` or inside a daemon. ``registry``, ``protocol``, ``rates`` and
``faults`` decide and are pure; ``store`` keeps (SQLite, in a thread); ``http`` and ``websocket`` carry; ``endpoints``
(senders) and ``user_agents`` (receivers) put them together, and meet in ``delivery``.

A user agent's id is a secret: whoever has it can attach as that user agent. So are endpoints. Neither is logged whole.
"""
