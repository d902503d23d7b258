"""What becomes of links in uncommon networks, row by row; run by itself it writes the table into docs/links.md."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "tests/system")]

from pairs import Outcome, outcome_of, peer  # noqa: E402
from two_homes import MEMBER, STUN_PORT, TURN  # noqa: E402
from uncommon_homes import FORWARDED_PORT, Network, UncommonHomes  # noqa: E402

from demo.processes import Failed, wait_for  # noqa: E402

PAGE = ROOT / "docs/links.md"
BEGIN, END = "<!-- uncommon networks, made by `make lab` -->", "<!-- end of uncommon networks -->"
TLS_PORT = 5349
KNOWN_WITHIN = 30.0  # seconds
ROUTER_FORGETS = 16  # seconds; an ordinary router's 30 and more, in a hurry: we knock every 15, four times in 4 s
PASTED_AFTER = 26.0  # seconds from the answer, in which a router that nobody passes has forgotten
CHECKS_TAKE = 5.0  # seconds; then the pair would be given up, and the third member's answer be used
STRICT = ("symmetric", "symmetric")

Play = Callable[[UncommonHomes], str]


@dataclass(frozen=True)
class Row:
    """One network: what it is, how it is played, what shall come of it."""

    name: str
    told: str
    play: Play
    expected: str
    is_quick: bool = False


def pair(network: Network, column: str = "mesh STUN") -> Play:
    """Both are members; what becomes of the link between them."""

    def play(lab: UncommonHomes) -> str:
        lab.network = network
        outcome = outcome_of(lab, column, *network.kinds)
        return _in_words(lab, outcome)

    return play


def _in_words(lab: UncommonHomes, outcome: Outcome) -> str:
    path = peer(lab.daemons["a"], "b")["path"]
    if path is None:
        return f"{outcome}; known in {outcome.seconds:.1f} s"
    family = ", IPv6" if path["remote"].startswith("[") else ""
    return f"{outcome}{family}, {outcome.seconds:.1f} s"


def _member_alone_with_a(lab: UncommonHomes, network: Network) -> None:
    """``b`` is no member any more, and both begin anew in that network."""
    lab.network = Network()
    lab.rebuild("mesh STUN", "none", "none")
    lab.daemons["b"].call("mesh.leave")
    wait_for(lambda: not peer(lab.daemons["a"], "b"), "a knows that b has left")
    lab.network = Network(network.kinds, network.links, network.prepare, is_linked=False)
    lab.rebuild("mesh STUN", *network.kinds)
    wait_for(lambda: "member" in lab.daemons["a"].linked(), "a is linked to the member", 40)


def hopeless_join(lab: UncommonHomes) -> str:
    """The introducer and the newcomer cannot connect."""
    _member_alone_with_a(lab, Network(STRICT))
    a, b = lab.daemons["a"], lab.daemons["b"]
    before, began = lab.pushes_sent(), time.monotonic()
    joined = lab.join(b, a)
    seconds, pushes = time.monotonic() - began, lab.pushes_sent() - before
    linked = b.linked()
    if joined["introducer"]["name"] != "a" or linked != {"member"}:
        raise Failed(f"joined by {joined['introducer']['name']}, linked to {linked}")
    b.meshctl("send", "a", "by way of another")
    if "by way of another" not in a.meshctl("inbox").stdout:
        raise Failed("what b sends does not reach a")
    return f"joined over the third member, {pushes} pushes, {seconds:.1f} s"


def pasted_join(lab: UncommonHomes) -> str:
    """Between answer and accept a router forgets, unless the answering side knocks again."""
    slow = Network(prepare=lambda lab: lab.forget_udp_after(ROUTER_FORGETS))
    _member_alone_with_a(lab, slow)
    a, b = lab.daemons["a"], lab.daemons["b"]
    try:
        token = a.meshctl("introduce", "--by-hand").stdout.strip()
        answered = a.meshctl("answer", "-", stdin=b.meshctl("offer", "--for", token, "--name", "b").stdout).stdout
        lab.push.kill()  # the two would find each other by push in the end
        time.sleep(PASTED_AFTER)  # this is the condition: time passes, and nothing else
        began = time.monotonic()
        b.meshctl("accept", "-", stdin=answered)
        wait_for(lambda: "a" in b.linked() and "b" in a.linked(), "they are linked")
        seconds = time.monotonic() - began
        if seconds > CHECKS_TAKE:
            raise Failed(f"joined another way, after {seconds:.1f} s: the router had forgotten")
        return f"joined, {peer(b, 'a')['path']['kind']}, {seconds:.1f} s"
    finally:
        lab.forget_udp_after(30)
        log_size = len(lab.push.log())
        lab.push.start()
        back = "user_agent_connected"  # the next row shall not wait for that
        wait_for(lambda: lab.push.log()[log_size:].count(back) >= len(lab.daemons), "all hear pushes again", 60)


def nothing_gets_out(lab: UncommonHomes) -> str:
    """UDP is blocked and no TURN server named."""
    blocked = Network(prepare=lambda lab: lab.block_udp("a"), is_linked=False)
    lab.network = blocked
    began = time.monotonic()
    a, _ = lab.rebuild("mesh STUN", *blocked.kinds)
    member = lab.daemons["member"]

    def said() -> list[str]:
        """Who was called knows later: it cannot tell whether its answer is still on its way."""
        found = (peer(a, "member").get("last_error_detail"), peer(member, "a").get("last_error_detail"))
        return [text for text in found if text and "blocks UDP" in text]

    wait_for(said, "it has been tried, and is explained", KNOWN_WITHIN)
    seconds = time.monotonic() - began
    expectation = a.call("net.check", servers=[f"{MEMBER}:{FORWARDED_PORT}"])["expectation"]
    if "UDP seems to be blocked" not in expectation:
        raise Failed(f"the network check says: {expectation}")
    return f"no link; “a firewall that blocks UDP”, {seconds:.1f} s after the start"


def over_turn(server: str, other: str = "stun") -> Play:
    """``a`` can use TCP alone; ``other``: how far ``b`` goes. The third member allows a relay of ``a``'s."""

    def play(lab: UncommonHomes) -> str:
        authority, certificate, key = lab.make_certificate()
        lab.coturn.start(f"--tls-listening-port={TLS_PORT}", f"--cert={certificate}", f"--pkey={key}")
        files = f'turn_credentials = "{lab.credentials}"\nturn_ca_file = "{authority}"\n'
        lines = f'ice = "turn"\nturn_servers = ["{server}"]\n{files}'
        network = Network(links={"a": lines, "b": f'ice = "{other}"\n'}, prepare=lambda lab: lab.block_udp("a"))
        lab.restart_member('ice = "stun"\n')
        try:
            return pair(network)(lab)
        finally:
            lab.coturn.kill()
            lab.restart_member()

    return play


def neighbors(lab: UncommonHomes) -> None:
    lab.move_in()


def neighbors_with_more(lab: UncommonHomes) -> None:
    lab.move_in()
    lab.add_interfaces()


HIDDEN = "no STUN"
BLOCKED = "UDP blocked at one home"
PORT = f"port = {FORWARDED_PORT}\n"
ANNOUNCED = f'{PORT}announce = ["11.0.7.1:{FORWARDED_PORT}"]\n'
TCP, TLS = f"turn:{TURN}:{STUN_PORT}?transport=tcp", f"turns:{TURN}:{TLS_PORT}"

ROWS = (
    Row(
        "a newcomer and its introducer, both behind symmetric routers; a third member in the open",
        "mesh STUN",
        hopeless_join,
        "joined over the third member, 2 pushes",
        is_quick=True,
    ),
    Row(
        "a join by copy and paste, port-restricted routers that forget after 16 s; pasted 26 s after the answer",
        "mesh STUN",
        pasted_join,
        "joined, ",
    ),
    Row(BLOCKED, "nothing", nothing_gets_out, "no link; ", is_quick=True),
    Row(f"{BLOCKED}, the others say `stun`", "TURN over TCP", over_turn(TCP), "relay candidate"),
    Row(
        f"{BLOCKED}, the others say `stun`",
        "TURN over TLS, private authority",
        over_turn(TLS),
        "relay candidate",
        is_quick=True,
    ),
    Row(
        f"{BLOCKED}, the third member says `stun`",
        "TURN over TLS, but `mesh` at the other",
        over_turn(TLS, other="mesh"),
        "over a member",
    ),
    Row(
        "IPv6 with firewalls, and symmetric routers for IPv4",
        HIDDEN,
        pair(Network(STRICT, prepare=UncommonHomes.use_ipv6), HIDDEN),
        "direct (host-host), IPv6",
        is_quick=True,
    ),
    Row(
        "IPv6 with firewalls, and symmetric routers for IPv4",
        "mesh STUN",
        pair(Network(STRICT, prepare=UncommonHomes.use_ipv6)),
        "direct (host-host), IPv6",
    ),
    Row(
        "symmetric routers, one with a port forwarded by hand",
        "mesh STUN, `port`",
        pair(Network(STRICT, {"a": PORT}, lambda lab: lab.forward("a"))),
        "over a member",
    ),
    Row(
        "symmetric routers, one with a port forwarded by hand",
        "mesh STUN, `port`, `announce`",
        pair(Network(STRICT, {"a": ANNOUNCED}, lambda lab: lab.forward("a"))),
        "direct (prflx-srflx)",
        is_quick=True,
    ),
    Row(
        "two homes where each machine has two addresses and a container bridge, the same on both",
        "mesh STUN",
        pair(Network(prepare=UncommonHomes.add_interfaces)),
        "direct (srflx-srflx)",
    ),
    Row("two machines on one LAN", HIDDEN, pair(Network(prepare=neighbors), HIDDEN), "direct (host-host)"),
    Row(
        "two machines on one LAN, each with two addresses and a container bridge, the same on both",
        HIDDEN,
        pair(Network(prepare=neighbors_with_more), HIDDEN),
        "direct (host-host)",
        is_quick=True,
    ),
)


def main() -> None:
    made = f"{time.strftime('%Y-%m-%d')}, Linux {platform.release().split('-')[0]}, {os.cpu_count()} cores."
    lines = [made, "", "| network | told | what becomes of it |", "|---|---|---|"]
    failed = False
    with UncommonHomes() as lab:
        lab.settle("mesh STUN")
        for row in ROWS:
            if sys.argv[1:] and not any(word in f"{row.name} | {row.told}" for word in sys.argv[1:]):
                continue
            try:
                result = row.play(lab)
            except Failed as failure:
                result = f"**failed**: {failure}"
            if not result.startswith(row.expected):
                failed = True
                print(lab.last_lines(40))
            print(
                f"{'' if result.startswith(row.expected) else 'FAILED '}{row.name} | {row.told} | {result}", flush=True
            )
            lines.append(f"| {row.name} | {row.told} | {result} |")
    if not sys.argv[1:]:
        text = PAGE.read_text()
        before, rest = text.split(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n" + "\n".join(lines) + f"\n{END}{rest.split(END)[1]}")
    sys.exit(failed)


if __name__ == "__main__":
    main()
