"""The other members of the mesh, and how they are reached. A star marks the admins.

LINK is how the direct link runs: the kind of our ICE candidate and, if it differs, of theirs (host, srflx, prflx, relay
candidate); without one, over whom the peer is reached. LOSS is that of heartbeats, there and back. RECV/s, SEND/s and
QUEUED are in bytes.
"""

from __future__ import annotations

import argparse
import re
from typing import Any

from meshctl import durations, quantities, reasons, render
from meshctl.client import Client

METHODS = ("peers.list",)
EXAMPLE = """\
meshctl peers
meshctl peers -v
meshctl peers --json | jq '.peers[] | select(.reachable | not) | .name'"""

_HEAD = ("NAME", "LINK", "RTT", "LOSS", "RECV/s", "SEND/s", "QUEUED", "AGE")
_COLOURS = {"unreachable": "red", "connecting": "yellow"}
_PLAIN_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}\Z")
_MAX_CELL = 16  # characters of a name in the table, which is to fit a terminal of 80; the details have all of it
_LAST_ERROR_SHOWN = 3_600.0  # seconds for which the end of a former link stays of interest where there is a new one


def configure(parser: argparse.ArgumentParser) -> None:
    """How much to show."""
    parser.add_argument("-v", "--details", action="store_true", help="all that is known of each, in several lines")
    parser.add_argument("--names", action="store_true", help="only names (or ids), one a line, as completion uses them")


def run(args: argparse.Namespace, client: Client) -> int:
    """Ask, and print."""
    result = client.call("peers.list", {})
    peers = result["peers"]
    if args.json:
        render.document(result)
    elif args.names:
        for peer in peers:  # shells expand what completion gives them: nothing but plain names may pass
            print(peer["name"] if _PLAIN_NAME.match(peer["name"]) else peer["short_id"])
    elif not peers:
        render.note("There are no other members yet. Invite one: meshctl introduce")
    elif args.details:
        for number, peer in enumerate(peers):
            print("\n" * (number > 0) + render.painted(render.clean(_starred(peer)), "bold"))
            render.facts(_details(peer), indent=2)
    else:
        colours = _COLOURS | {_cut(_link(peer)): "green" for peer in peers if peer["link"] == "up"}
        render.table(_HEAD, [_row(peer) for peer in peers], colours, notes=[_note(peer) for peer in peers])
    return 0


def _starred(peer: dict[str, Any]) -> str:
    return f"{peer['name']} *" if peer["admin"] else str(peer["name"])


def _cut(text: str) -> str:
    text = render.clean(text)
    return text if len(text) <= _MAX_CELL else text[: _MAX_CELL - 1] + "…"


def _kind(kind: str | None) -> str:
    return "relay candidate" if kind == "relay" else kind or "up"


def _link(peer: dict[str, Any]) -> str:
    if peer["link"] == "up":
        path = peer["path"] or {"kind": None, "remote_kind": None}
        ours, theirs = _kind(path["kind"]), _kind(path["remote_kind"])
        if "relay" in (path["kind"], path["remote_kind"]):
            return _kind("relay")
        return ours if theirs in (ours, "up") else f"{ours}-{theirs}"
    if peer["via"]:
        return f"via {peer['via'][0]}"
    return "connecting" if peer["link"] == "connecting" else "unreachable"


def _row(peer: dict[str, Any]) -> list[str]:
    traffic = peer["traffic"]
    moving = ["", "", ""]
    if traffic is not None:
        moving = [quantities.tight(traffic[key]) for key in ("receive_rate", "send_rate", "buffered_size")]
    return [
        _cut(peer["name"])[: _MAX_CELL - 2 * peer["admin"]] + " *" * peer["admin"],
        _cut(_link(peer)),
        "" if peer["rtt"] is None else durations.tight(peer["rtt"]),
        "" if peer["loss"] is None else quantities.percent(peer["loss"]),
        *moving,
        "" if peer["since"] is None else durations.tight(render.seconds_since(peer["since"])),
    ]


def _note(peer: dict[str, Any]) -> str:
    """What stands below a peer's line: why there is no link, or was none a while ago."""
    reason, moment = peer["last_error"], peer["last_error_at"]
    if reason is None:
        return ""
    if moment is None:
        return reasons.in_words(reason)
    if peer["link"] == "up" and render.seconds_since(moment) > _LAST_ERROR_SHOWN:
        return ""
    return f"{durations.tight(render.seconds_since(moment))} ago: {reasons.in_words(reason)}"


def _details(peer: dict[str, Any]) -> list[tuple[str, str]]:
    facts = [("id", peer["peer_id"]), ("link", _how(peer))]
    if peer["rtt"] is not None:
        loss = "" if peer["loss"] is None else f"; {quantities.percent(peer['loss'])} of heartbeats lost"
        facts.append(("round trip", f"{durations.show(peer['rtt'])} by heartbeats{_packets_rtt(peer)}{loss}"))
    traffic = peer["traffic"]
    if traffic is not None:
        facts += [
            ("sent", _sent(traffic)),
            ("received", _moved(traffic, "received", "receive")),
            ("queued", f"{quantities.size(traffic['buffered_size'])}, {_window(traffic)}"),
        ]
    left = render.ahead(peer["push_until"])
    facts.append(("push", "cannot be called" if left in ("", "expired") else f"can be called for {left}"))
    if peer["version"]:
        facts.append(("daemon", peer["version"]))
    if peer["last_error"] is not None:
        moment = "" if peer["last_error_at"] is None else f"{render.ago(peer['last_error_at'])} ago: "
        facts.append(("last error", moment + reasons.in_words(peer["last_error"])))
        if peer["last_error_detail"]:
            facts.append(("", peer["last_error_detail"]))
    return facts


def _how(peer: dict[str, Any]) -> str:
    path = peer["path"]
    if peer["link"] == "up" and path:
        ends = f"{_kind(path['kind'])} {path['local']} to {_kind(path['remote_kind'])} {path['remote']}"
        return f"{ends}, up {render.ago(peer['since'])}, heard {render.ago(peer['seen'])} ago"
    how = f"via {', '.join(peer['via'])}" if peer["via"] else "" if peer["link"] == "connecting" else "unreachable"
    return ", ".join(filter(None, (how, "connecting" if peer["link"] == "connecting" else "")))


def _packets_rtt(peer: dict[str, Any]) -> str:
    traffic = peer["traffic"]
    if traffic is None or traffic["rtt"] is None:
        return ""
    best = "" if traffic["min_rtt"] is None else f", at best {durations.show(traffic['min_rtt'])}"
    return f", {durations.show(traffic['rtt'])} by packets{best}"


def _moved(traffic: dict[str, Any], done: str, rate: str) -> str:
    total, packets = quantities.size(traffic[f"{done}_size"]), traffic[f"packets_{done}"]
    return f"{total} in {packets:,} packets, now {quantities.size(traffic[f'{rate}_rate'])}/s"


def _sent(traffic: dict[str, Any]) -> str:
    lost, again = traffic["packets_lost"], traffic["packets_retransmitted"]
    return f"{_moved(traffic, 'sent', 'send')}; {lost:,} lost, {again:,} sent again"


def _window(traffic: dict[str, Any]) -> str:
    return f"window {quantities.size(traffic['window_size'])}, packets of {traffic['packet_size']:,} bytes"
