"""Every timer of a node by name, and the machine that it wakes. The bytes are what the timer is about."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from meshd.core.context import Context

if TYPE_CHECKING:
    from meshd.core.node import Node


def timer_table(node: Node, ctx: Context) -> dict[str, Callable[[bytes], None]]:
    """The table for that node."""
    return {
        "hello": node.neighbors.on_hello_timeout,
        "silence": node.neighbors.on_silence_timeout,
        "heartbeat": lambda _: node.liveness.on_timer(),
        "record": lambda _: node.membership.on_timer(),
        "link_state": lambda _: node.link_states.on_timer(),
        "news": lambda _: node.broadcast.flush_news(),
        "have": lambda _: node.broadcast.flush_ids(),
        "graft": lambda _: node.broadcast.on_graft_timer(),
        "compare": lambda _: node.reconciliation.on_timer(),
        "session": node.signaling.on_timeout,
        "resend": node.signaling.on_resend,
        "grant": node.signaling.on_grant_possible,
        "resume": node.resuming.on_timer,
        "dial": node.topology.on_timer,
        "links": lambda _: node.topology.look(),
        "push": node.pushing.on_timer,
        "behalf": node.asking.on_timer,
        "uptime": lambda _: node.keepers.look(),
        "mint": node.introductions.on_mint_timeout,
        "accept": node.arrivals.on_grant_wait_over,
        "help": node.arrivals.on_help_wait_over,
        "further": node.joining.on_further_wait_over,
        "join": lambda _: node.joining.on_timer("join"),
        "join_push": lambda _: node.joining.on_timer("join_push"),
        "join_retry": lambda _: node.joining.on_timer("join_retry"),
        "admission": node.admissions.on_timeout,
        "appointing": node.administration.on_timeout,
        "naming": node.admissions.on_naming_timeout,
        "revocations": node.revocation_outbox.on_timer,
        "renewal": lambda _: node.admissions.on_renewal_timer(),
        "deliver": node.outbox.on_retry,
        "deposit": node.deposits.on_timer,
        "handing": node.keeping.on_timer,
        "send": node.outbox.on_wait_over,
        "messages": lambda _: node.sweep_messages(),
        "ping": node.pinging.on_timeout,
        "trace": node.tracing.on_timeout,
        "stream": node.streams.on_open_timeout,
        "acceptor": node.stream_book.on_accept_timeout,
        "relayed": node.relayed_streams.on_timer,
        "sweep": lambda _: node.sweep(),
        "grants": lambda _: node.granting.look(),
        "granting": node.granting.on_timer,
        "self_test": lambda _: node.self_test.on_timer(),
        "probe": node.self_test.on_timeout,
        "rotation": lambda _: node.subscription_change.on_rotation_timer(),
        "sealing": lambda _: node.sealing_keys.on_timer(),
        "twin": lambda _: node.twin.on_timer(),
        "register": lambda _: node.channels.on_register_timer(),
        "routes": lambda _: node.on_routes(),
        "outlook": lambda _: node.outlook.refresh(),
        "stranger": node.peering.on_stranger_timeout,
        "store": lambda _: ctx.retry_store(),
    }
