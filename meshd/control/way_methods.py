"""The control methods that show the mesh as a whole, and the way through it."""

from __future__ import annotations

from meshd.control.entries import PEER, READ, WRITE, Method, Param
from meshd.control.shapes import Field

# Policy
DEFAULT_PROBES = 3  # questions to each hop: the shortest of three round trips is seldom a bad one
MAX_PROBES = 10
DEFAULT_PROBE_TIMEOUT = 2.0  # seconds for an answer over eight links around the world
MAX_PROBE_TIMEOUT = 30.0  # seconds

WAYS: tuple[Method, ...] = (
    Method(
        "mesh.graph",
        READ,
        "The mesh as this node knows it: all members, and who is linked to whom. Of links between others nothing is "
        "known but that their ends say so.",
        (),
        (
            Field("mesh_id", "id", "The mesh's public key."),
            Field("mesh_name", "string", "Its name."),
            Field("time", "time", "When that was so."),
            Field("members", "[member]", "By name. Links and claims name them by their place in this list, from 0."),
            Field("links", "[[integer]]", "Pairs of members that are linked: both say so, or it is a link of ours."),
            Field(
                "claims",
                "[[integer]]",
                "Pairs where only the first says that it is linked to the second: a link that is just coming or going, "
                "one to a member that is down, or a lie. Nothing is sent that way.",
            ),
        ),
        {},
    ),
    Method(
        "peers.trace",
        WRITE,
        "Find the way that messages to a member take, hop by hop: each is asked where it would hand them, and how long "
        "that takes there and back is measured.",
        (
            PEER,
            Param("probes", "integer", "Questions to each hop.", False, DEFAULT_PROBES, 1, MAX_PROBES),
            Param(
                "timeout",
                "seconds",
                "How long to wait for an answer. A hop that owes the first two counts as silent.",
                False,
                DEFAULT_PROBE_TIMEOUT,
                0.01,
                MAX_PROBE_TIMEOUT,
            ),
        ),
        (
            Field("peer_id", "id", "The member."),
            Field("name", "string", "Its name."),
            Field(
                "outcome",
                "arrived|silent|no_route|refused|loop|too_far",
                "How it ends. `silent`: the last hop does not answer; `no_route`: it has no way to the member; "
                "`refused`: it does not relay; `loop`: it would hand it to one that had it before; `too_far`: more "
                "links than a message may cross.",
            ),
            Field("hops", "[hop]", "In order; at the end the member itself, if it got there."),
            Field("expected", "[string]", "Names of the relays on the way that this node's own records show."),
            Field("elapsed", "seconds", "How long it all took."),
        ),
        {"peer": "laptop"},
    ),
)
