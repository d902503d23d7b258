"""The configuration's section ``[push]``. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from meshd.config_checks import (
    check_listen,
    check_origin,
    check_own_url,
    check_path,
    check_proxy,
    check_service,
    check_subject,
)
from meshd.config_setting import setting
from meshd.push_services import MAX_SERVICES


@dataclass(frozen=True, slots=True)
class PushConfig:
    """Web Push: how a peer without a link to this node reaches it."""

    services: tuple[str, ...] = setting(
        ("mozilla",),
        "Push services to receive by, in order of preference, at most four: a preset (`mozilla`); the wss:// or ws:// "
        "URL of a service that speaks autopush's protocol, such as `meshd-push`; `unifiedpush:https://…`, an ntfy "
        "server; `own`, a service inside this daemon. Empty: this node cannot be reached by push and mints no tokens.",
        check=check_service,
        max_entries=MAX_SERVICES,
    )
    trusted_origins: tuple[str, ...] = setting(
        (),
        "Origins of your own push services. Only for these may an endpoint be plain http, loopback or in a private "
        "network; any other such endpoint in a token or message is refused, lest a peer make this node call into "
        "your network.",
        check=check_origin,
    )
    subscription: str = setting(
        "own",
        "`own`: each holder (a member, a token) has a subscription and a VAPID key of its own, so that what it was "
        "given can be taken back from it alone, and it is given capabilities for 14 days. `shared`: one subscription "
        "for tokens and members of a day and one for the other members, for services that allow few; then "
        "capabilities are given for 48 hours, and taking one back means a new subscription for all.",
        choices=("own", "shared"),
    )
    self_test_interval: float = setting(
        21_600.0,
        "How often this node pushes to itself through each service, to know that it can be reached; 0: never.",
        unit="seconds",
        low=0,
        high=2_592_000,
        reload=True,
    )
    rotation_interval: float = setting(
        7_776_000.0,
        "How often all subscriptions are made anew, with new keys; 0: never. The holders are told over the mesh; the "
        "old ones are listened to until they have been, or could not use them any more, and for a day at least.",
        unit="seconds",
        low=0,
        high=315_360_000,
        reload=True,
    )
    proxy: str = setting(
        "",
        "An HTTP proxy, `http://HOST:PORT`, through which push services are reached (CONNECT), to send and to receive; "
        "`trusted_origins` are reached without it. It looks names up, so that nobody checks here whether an endpoint's "
        "name leads into a private network: let the proxy refuse that. Addresses in endpoints are still checked.",
        check=check_proxy,
        default_doc="none",
    )
    own_listen: str = setting(
        "",
        "Where the service `own` is served, `HOST:PORT`: HTTP, or HTTPS with `own_tls_certificate`. A proxy with TLS "
        "may stand before it, on the same machine.",
        check=check_listen,
    )
    own_url: str = setting(
        "",
        "The origin that other peers reach that service at, as `https://push.example.org`. Its name or address must be "
        "public and TLS valid, or every other node has to name it in `trusted_origins`. A change ends all "
        "subscriptions.",
        check=check_own_url,
    )
    own_tls_certificate: str = setting(
        "",
        "A certificate and its chain (PEM) for that service. Read again at a reload.",
        check=check_path,
        default_doc="none: a proxy does that",
    )
    own_tls_key: str = setting("", "The certificate's key (PEM, not encrypted).", check=check_path, default_doc="none")
    unifiedpush_token_file: str = setting(
        "",
        "A file with an access token for the ntfy servers among `services` that want one from whoever listens. Nobody "
        "but its owner may be able to read it (mode 0600).",
        check=check_path,
        default_doc="none",
    )
    request_timeout: float = setting(
        10.0, "How long a push service may take to answer one request.", unit="seconds", low=1, high=120
    )
    subject: str = setting(
        "https://meshd.invalid",
        "Whom an operator of a push service may write to about this node's pushes (VAPID `sub`, RFC 8292). "
        "Some services refuse one that is not a real address.",
        check=check_subject,
        reload=True,
    )
