"""What people see of capabilities: who holds what, in the native values of ``meshd.core.events.Requested``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from meshd.core.context import Context
from meshd.core.membership.lookup import find_key
from meshd.ids import INTRODUCTION_ID_SIZE, PEER_ID_SIZE, IntroductionId, PeerId

if TYPE_CHECKING:
    from meshd.core.node import Node


def view_capabilities(node: Node) -> dict[str, Any]:
    """For ``capabilities.list``."""
    given = [
        {
            "holder_id": holder,
            "kind": _kind_of(node, holder),
            "name": _name_of(node, holder),
            "newcomer": bool(row.newcomer),
            "services": services,
            "generation": row.generation,
            "given_until": float(row.granted_until) if row.granted_until else None,
            "taken_until": float(row.taken_until) if row.taken_until else None,
        }
        for holder, row, services in node.holders.held()
    ]
    held = [{**entry, "name": _name_of(node, entry["peer_id"])} for entry in map(dict[str, Any], node.grants.view())]
    return {
        "generation": node.granting.generation(),
        "given": sorted(given, key=lambda entry: (entry["kind"] != "member", entry["name"], entry["holder_id"])),
        "held": sorted(held, key=lambda entry: (entry["name"], entry["peer_id"])),
    }


def view_audit(node: Node, ctx: Context, params: dict[str, Any]) -> dict[str, Any]:
    """For ``capabilities.audit``, with the parameters of that method. Raises ControlError for an unknown member."""
    holder = None if params.get("peer") is None else find_key(node.membership, params["peer"])
    since = 0.0 if params.get("since") is None else ctx.now.unix - params["since"]
    rows = node.audit.entries(holder, params.get("kind"), since, params.get("limit") or 100)
    entries = [
        {
            "time": float(row.when),
            "kind": row.kind,
            "holder_id": row.holder or None,
            "name": _name_of(node, row.holder),
            "service": row.service,
            "until": float(row.until) if row.until else None,
            "detail": row.detail,
        }
        for row in rows
    ]
    return {"entries": entries, "kept": len(node.audit)}


def _kind_of(node: Node, holder: bytes) -> str:
    if len(holder) != PEER_ID_SIZE:
        return "token"
    return "introducer" if node.joining.is_introducer(PeerId(holder)) else "member"


def _name_of(node: Node, holder: bytes) -> str:
    if len(holder) == INTRODUCTION_ID_SIZE and node.introductions.is_ours(holder):
        return node.introductions.row(IntroductionId(holder)).label
    return node.membership.name_of(PeerId(holder)) or ""
