"""What can be seen of a node from outside, in the native values of ``meshd.core.events.Requested``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class NodeView:
    """A reading of the node, made at once and never changed afterwards.

    Each is the result of the control method it is named after, without what only the shell knows (``version``,
    ``protocol``, ``started_at``, ``uptime`` of the status).
    """

    status: dict[str, Any]
    peers: list[dict[str, Any]]
    messages: list[dict[str, Any]]
    introductions: list[dict[str, Any]]
