"""Every notification of the core, for the log and for watchers: names, fields and what each means. Append-only."""

from __future__ import annotations

from typing import NamedTuple


class Notification(NamedTuple):
    """One kind. ``level``: what it is logged at (info, or warning where somebody should look)."""

    fields: tuple[str, ...]
    level: str
    doc: str


NOTIFICATIONS: dict[str, Notification] = {
    "mesh_founded": Notification(("mesh", "name"), "info", "This node has founded a mesh."),
    "join_began": Notification(("introduction", "introducer"), "info", "A token was pasted; the join begins."),
    "join_requested": Notification(("introducer", "attempt"), "info", "A join request was pushed to the introducer."),
    "joined": Notification(("mesh", "name", "introducer"), "info", "This node has been admitted to a mesh."),
    "join_failed": Notification(("introducer", "reason"), "warning", "The join has ended without a link."),
    "left": Notification(("mesh",), "info", "This node has left its mesh."),
    "introduction_minted": Notification(("introduction", "label", "uses"), "info", "A token was handed out."),
    "introduction_revoked": Notification(("introduction",), "info", "A token was taken back."),
    "peer_admitted": Notification(("peer", "name", "introduction"), "info", "A newcomer was admitted by this node."),
    "join_refused": Notification(("peer", "introduction", "reason"), "warning", "A bearer of a token was refused."),
    "member_joined": Notification(("peer", "name", "source"), "info", "A member has become known; by whom."),
    "member_left": Notification(("peer", "name"), "info", "A member has left the mesh for good."),
    "member_renamed": Notification(("peer", "name", "previous"), "info", "A member has another name."),
    "revoked": Notification(
        ("peer", "name", "scope", "by"), "warning", "A `member`, or its rights as an `admin`, were revoked; by whom."
    ),
    "revocation_rejected": Notification(
        ("peer", "reason"), "warning", "A neighbor brought a revocation that does not hold."
    ),
    "expelled": Notification(("mesh", "reason"), "warning", "This node is no member any more: it has been revoked."),
    "admin_appointed": Notification(("peer", "name"), "warning", "The mesh key was used here to appoint an admin."),
    "admin_removed": Notification(("name",), "warning", "The mesh key has removed this node as an admin."),
    "admission_renewed": Notification(("name", "admin"), "info", "An admin has renewed this node's admission."),
    "link_up": Notification(("peer", "name", "link", "kind", "replaced"), "info", "A link is up and proved."),
    "link_down": Notification(("peer", "name", "link", "reason"), "info", "A link is gone."),
    "link_failed": Notification(("peer", "name", "reason"), "info", "An attempt at a link has ended without one."),
    "link_refused": Notification(("peer", "link", "reason"), "warning", "The other end did not prove who it is."),
    "message_acknowledged": Notification(("peer", "message"), "info", "A message of ours is durable at its receiver."),
    "message_deposited": Notification(
        ("peer", "message", "keeper"), "info", "A message of ours for a peer that is away is durable at a first keeper."
    ),
    "message_arrived": Notification(("peer", "message", "application", "size"), "info", "A message is in the inbox."),
    "message_expired": Notification(("peer", "message"), "warning", "A message of ours was never acknowledged."),
    "stream_opened": Notification(
        ("stream", "peer", "name", "application", "ours"), "info", "A byte stream is open; `ours`: this side opened it."
    ),
    "stream_path_lost": Notification(
        ("stream", "peer", "reason"), "info", "A stream over others has lost its path and looks for another."
    ),
    "stream_ended": Notification(
        ("stream", "peer", "name", "application", "reason", "sent_size", "received_size"),
        "info",
        "A byte stream is over; `done`: all bytes of both ways have arrived.",
    ),
    "subscriptions_lost": Notification(("service",), "warning", "A push service has forgotten us; all is made anew."),
    "subscriptions_changed": Notification(
        ("cause", "generation"), "info", "Our push subscriptions are new; all who hold something of ours are told."
    ),
    "push_test_failed": Notification(
        ("service", "outcome", "detail"), "warning", "A push to ourselves did not come back; what that says."
    ),
    "channel_refused": Notification(("channel", "status"), "warning", "A push service refused a subscription."),
    "push_failed": Notification(("peer", "reason"), "warning", "A push could not be sent."),
    "pushed_for_another": Notification(
        ("peer", "asker", "outcome"), "info", "A member was called by push on behalf of another."
    ),
    "push_unauthorized": Notification(
        ("peer", "service", "status"),
        "warning",
        "A capability that should serve was refused: a clock may be wrong.",
    ),
    "push_dropped": Notification(("channel", "reason"), "warning", "A push came that means nothing to us."),
    "record_rejected": Notification(("peer", "reason"), "warning", "A neighbor brought a record that does not hold."),
    "envelope_rejected": Notification(("peer", "reason"), "warning", "An envelope came that does not hold."),
    "message_malformed": Notification(("peer", "reason"), "warning", "A neighbor sent what is no message."),
    "identity_doubled": Notification(
        ("peer", "number"), "warning", "Two daemons run, or ran, with one identity: ours or that peer's."
    ),
    "stood_aside": Notification(
        ("seconds",),
        "warning",
        "Another daemon with this node's identity was there first: no links and pushes for so long.",
    ),
    "sealing_key_renewed": Notification(
        ("cause",), "info", "Envelopes to this node are sealed with a new key; `asked` or `scheduled`."
    ),
    "store_failing": Notification(("reason",), "warning", "The state directory cannot be written; trying again."),
    "clock_jumped": Notification(("seconds",), "warning", "The wall clock was set by this much."),
}
