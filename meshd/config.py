"""The configuration: one TOML file as documented frozen dataclasses.

Pure. ``meshd.config_toml`` makes a ``Config`` of the file's text; reading files and the environment is the daemon's
business. Each field carries its explanation, limits and whether SIGHUP is enough for a change to take effect;
``docs/configuration.md`` and the example file are made from that (``python -m meshd.daemon.document_config``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, get_type_hints

from meshd.config_checks import (
    check_address,
    check_announced,
    check_group,
    check_name,
    check_path,
    check_stun_server,
    check_turn_server,
)
from meshd.config_push import PushConfig as PushConfig
from meshd.config_setting import Setting as Setting
from meshd.config_setting import setting
from meshd.ids import MAX_NAME_CHARS, is_name

# Specification
MAX_VAPID_LIFETIME = 86_400.0  # seconds; RFC 8292 section 2: exp at most 24 h after the request


# -- the sections -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """This machine's daemon."""

    name: str = setting(
        "",
        "What this node asks to be called when it founds or joins a mesh and no other name is given.",
        check=check_name,
        default_doc="the host name, made valid",
        reload=True,
    )
    state_dir: str = setting(
        "",
        "Where identity, membership and the inbox are kept. Must belong to the daemon's user, with mode 0700. "
        "Two daemons cannot share one.",
        check=check_path,
        default_doc="`$STATE_DIRECTORY` (set by systemd), else `/var/lib/meshd`",
    )


@dataclass(frozen=True, slots=True)
class ControlConfig:
    """The socket that meshctl and programs talk to."""

    socket: str = setting(
        "",
        "The path of the Unix socket.",
        check=check_path,
        default_doc="`$MESHD_SOCKET`, else `$RUNTIME_DIRECTORY/meshd.sock`, else `$XDG_RUNTIME_DIR/meshd/meshd.sock`, "
        "else `/run/meshd/meshd.sock`",
    )
    admin_group: str = setting(
        "meshd",
        "Members of this Unix group may do everything, as root and the daemon's own user may. Empty: nobody else.",
        check=check_group,
    )
    write_group: str = setting(
        "",
        "Members of this Unix group may send and read messages, but not change the mesh. Empty: no such group. "
        "Everybody else who can open the socket may only look.",
        check=check_group,
    )
    metrics_port: int = setting(
        0,
        "The TCP port on 127.0.0.1 and ::1 at which Prometheus finds `/metrics`; 0: none. Everybody who has an account "
        "on this machine can read the page: the members' names, and how much this node talks with each.",
        low=0,
        high=65_535,
    )


@dataclass(frozen=True, slots=True)
class LinksConfig:
    """The data channels to other peers (WebRTC)."""

    allow_loopback: bool = setting(
        False, "Offer loopback addresses too. For several daemons on one machine: demos and tests."
    )
    addresses: tuple[str, ...] = setting(
        (),
        "Local addresses to use. Naming some keeps the others (a VPN's, a container bridge's) out of descriptions.",
        check=check_address,
        default_doc="all addresses of this machine",
    )
    ice: str = setting(
        "mesh",
        "How far links may go to get through NAT routers. `none`: this machine's own addresses only, no server is "
        "asked. `mesh`: members with a public address, your own push services and the addresses in a token are asked "
        "(STUN) what this machine looks like from outside. `stun`: those and `stun_servers`. `turn`: those and "
        "`turn_servers`, which carry the data of pairs that cannot connect otherwise. `relay_only`: nothing but "
        "`turn_servers`, so that peers do not learn this machine's addresses. With `none` and `mesh` no packet of ICE "
        "goes to anyone outside the mesh.",
        choices=("none", "mesh", "stun", "turn", "relay_only"),
    )
    port: int = setting(
        0,
        "The UDP port of all links, for a firewall or a router that is to let them in. One port serves any number of "
        "links; several daemons on one machine need one each.",
        low=0,
        high=65_535,
        default_doc="any that is free",
    )
    announce: tuple[str, ...] = setting(
        (),
        "Addresses outside at which a router forwards UDP to this node's `port`, set up by hand: `ADDRESS:PORT`. "
        "They are offered to peers as a port mapping's are, and STUN is answered there.",
        check=check_announced,
        default_doc="none; what routers map by themselves needs no mention",
    )
    port_mapping: bool = setting(
        True,
        "Whether to ask this machine's own router (PCP, NAT-PMP, UPnP-IGD) to let UDP in to the port of links, so that "
        "peers behind other routers find it without any server. Nobody else is asked; what comes in still has to prove "
        'a link\'s password. Taken back at the end. Not done with `ice = "none"` and `"relay_only"`.',
    )
    lab_addresses: bool = setting(
        False,
        "Take the addresses set aside for documentation (RFC 5737, RFC 3849) for public ones. For laboratories only.",
    )
    congestion: str = setting(
        "bbr",
        "How a link finds out how fast it may send. `bbr` models the path, so that a lost packet now and then costs "
        "nothing, as on radio links; `reno` halves its speed at each loss, as most of the Internet does.",
        choices=("bbr", "reno"),
    )
    stun_servers: tuple[str, ...] = setting(
        (),
        "STUN servers of others that tell this node its public address; all are asked at once. They see that address "
        'and when it is asked for, nothing else. Used with `ice = "stun"` and `"turn"`.',
        check=check_stun_server,
        default_doc="none; no STUN server of others is asked that is not named here",
    )
    turn_servers: tuple[str, ...] = setting(
        (),
        "TURN servers: `turn:HOST:PORT` (UDP), `turn:HOST:PORT?transport=tcp` or `turns:HOST:PORT` (TLS). All are "
        'tried at once, the first to answer is used. For `ice = "turn"` and `"relay_only"`.',
        check=check_turn_server,
        default_doc="none",
    )
    turn_credentials: str = setting(
        "",
        "A file with what the TURN servers ask for: the user name on its first line, the password on its second. "
        "Nobody but its owner may be able to read it (mode 0600).",
        check=check_path,
        default_doc="none",
    )
    turn_ca_file: str = setting(
        "",
        "Certificates (PEM) that `turns:` servers are checked against, where a private authority signed theirs.",
        check=check_path,
        default_doc="the system's",
    )
    stun_respond: bool = setting(
        True,
        "Whether this node, where it has a public address, tells other machines what theirs looks like (STUN), and "
        "members that it does. A few packets a minute for each member; strangers get few answers.",
    )
    gather_timeout: float = setting(
        2.0,
        "How long a link waits for the first answer of STUN and TURN servers before it goes on without.",
        unit="seconds",
        low=0.1,
        high=30,
    )
    connect_timeout: float = setting(
        15.0,
        "How long a link may take to open. Longer helps on very slow paths; it also delays the next attempt.",
        unit="seconds",
        low=1,
        high=120,
    )
    max_links: int = setting(
        256,
        "Links at one time, those being opened included. Each takes about 110 KB of memory while it is idle, and a few "
        "MB at most.",
        low=2,
        high=4_096,
    )


@dataclass(frozen=True, slots=True)
class MeshConfig:
    """How this node behaves as a member."""

    max_full_mesh: int = setting(
        16,
        "Up to so many members, every pair keeps a link. Above, each keeps a few and messages are relayed.",
        low=2,
        high=128,
        reload=True,
    )
    heartbeat_interval: float = setting(
        2.0,
        "How often an idle link is tried. Shorter notices a loss sooner and wakes radios more often.",
        unit="seconds",
        low=0.2,
        high=60,
        reload=True,
    )
    link_timeout: float = setting(
        4.5,
        "Silence after which a link is taken for dead and replaced; on a path with a round trip above half a second, "
        "somewhat later. At least two heartbeat intervals.",
        unit="seconds",
        low=1,
        high=300,
        reload=True,
    )
    silence_timeout: float = setting(
        60.0,
        "How long a link that has fallen silent is kept, with its streams, so that it can go on when the peer is heard "
        "again or another path is found.",
        unit="seconds",
        low=0,
        high=600,
        reload=True,
    )
    relay: bool = setting(
        True,
        "Whether this node forwards envelopes and streams between others. Without it, nobody can join through this "
        "node's links, and pairs that cannot connect directly need somebody else.",
        reload=True,
    )
    relay_rate: float = setting(
        67_108_864.0,
        "How many bytes a second streams of others may carry through this node: those that one neighbor asks for, all "
        "together, and those to one member. They go behind everything of this node's own that is urgent.",
        unit="bytes a second",
        low=1_000,
        high=100_000_000_000,
        reload=True,
    )
    keeper: str = setting(
        "auto",
        "Whether this node keeps for others: capabilities, so that it can call them by push on behalf of members that "
        "cannot, and sealed grants and messages for members that are away. `auto`: when it was up for 24 of the last "
        "36 hours; and messages also where no such member is there.",
        choices=("auto", "always", "never"),
        reload=True,
    )
    max_kept_size: int = setting(
        16_777_216,
        "Bytes of sealed messages kept for other members that are away; for one of them, and from one of them, a "
        "quarter. They are in memory as well. With `keeper` at `never` there are none.",
        unit="bytes",
        low=1_048_576,
        high=1_073_741_824,
        reload=True,
    )
    message_lifetime: float = setting(
        604_800.0,
        "How long a message waits for its receiver before its sender gives up. Keepers have it for 7 days at a time.",
        unit="seconds",
        low=60,
        high=2_592_000,
        reload=True,
    )
    sealing_key_lifetime: float = setting(
        2_592_000.0,
        "How long a key serves that envelopes to this node are sealed with; 15 days later it is erased, and opens no "
        "recording any more. 0: only `meshctl keys rotate` makes a new one.",
        unit="seconds",
        low=0,
        high=31_536_000,
        reload=True,
    )
    max_inbox_messages: int = setting(
        1_000,
        "Unread messages kept. When it is full, senders are told to try later; nothing that was acknowledged is lost.",
        low=1,
        high=100_000,
        reload=True,
    )
    max_inbox_size: int = setting(
        8_388_608, "The same in bytes of message bodies.", unit="bytes", low=65_536, high=1_073_741_824, reload=True
    )
    max_members: int = setting(
        10_000,
        "Members this node will remember. Every node knows every member, so this bounds memory.",
        low=2,
        high=100_000,
        reload=True,
    )


@dataclass(frozen=True, slots=True)
class IntroductionsConfig:
    """Tokens that let a newcomer join."""

    lifetime: float = setting(
        43_200.0,
        "How long a token can be used if `meshctl introduce` does not say. The capability in it lasts no longer "
        "than a day.",
        unit="seconds",
        low=60,
        high=MAX_VAPID_LIFETIME,
        reload=True,
    )
    may_introduce: bool = setting(
        True, "Whether those who join by this node's tokens may introduce others in turn.", reload=True
    )


@dataclass(frozen=True, slots=True)
class LogConfig:
    """What the daemon writes to standard error. Secrets never appear at any level."""

    format: str = setting(
        "auto",
        "`json`: one object a line. `console`: for people. `auto`: console on a terminal, else json.",
        reload=True,
        choices=("auto", "json", "console"),
    )
    level: str = setting(
        "info",
        "The least important lines to write. `debug` shows every event and command.",
        reload=True,
        choices=("debug", "info", "warning", "error"),
    )


@dataclass(frozen=True, slots=True)
class Config:
    """The whole file. Every section and key may be left out."""

    node: NodeConfig = NodeConfig()
    control: ControlConfig = ControlConfig()
    links: LinksConfig = LinksConfig()
    push: PushConfig = PushConfig()  # noqa: RUF009  frozen
    mesh: MeshConfig = MeshConfig()
    introductions: IntroductionsConfig = IntroductionsConfig()
    log: LogConfig = LogConfig()


SECTIONS: Mapping[str, type[Any]] = {item.name: type(item.default) for item in fields(Config)}


def settings_of(section: type[Any]) -> dict[str, tuple[Setting, Any, Any]]:
    """For each key of a section class: its ``Setting``, type and default, in the order of the file."""
    kinds = get_type_hints(section)
    return {item.name: (item.metadata["setting"], kinds[item.name], item.default) for item in fields(section)}


# -- what depends on the machine --------------------------------------------------------------------------------------


def resolve(config: Config, environment: Mapping[str, str], host_name: str) -> Config:
    """``config`` with the defaults that depend on the machine filled in: name, state directory, socket.

    systemd may list several directories in one variable, separated by colons: the first is ours.
    """
    state_dir = config.node.state_dir or environment.get("STATE_DIRECTORY", "").split(":")[0] or "/var/lib/meshd"
    runtime_dir = environment.get("RUNTIME_DIRECTORY", "").split(":")[0]
    session_dir = environment.get("XDG_RUNTIME_DIR", "")
    socket = (
        config.control.socket
        or environment.get("MESHD_SOCKET", "")
        or (f"{runtime_dir}/meshd.sock" if runtime_dir else "")
        or (f"{session_dir}/meshd/meshd.sock" if session_dir else "")
        or "/run/meshd/meshd.sock"
    )
    name = config.node.name or name_from_host(host_name)
    return replace(
        config,
        node=replace(config.node, name=name, state_dir=state_dir),
        control=replace(config.control, socket=socket),
    )


def name_from_host(host_name: str) -> str:
    """A valid member name made of the first label of a host name; ``node`` if nothing of it can be used."""
    made = re.sub(r"[^a-z0-9._-]+", "-", host_name.split(".")[0].lower())[:MAX_NAME_CHARS].strip("-._")
    return made if is_name(made) else "node"
