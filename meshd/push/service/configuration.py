"""``meshd-push``'s configuration file and what its command line changes, as one ``ServiceConfig``.

The file is TOML with two sections; every key is documented where it is defined, and docs and example are made of that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meshd.config_file import read_file
from meshd.config_setting import setting
from meshd.config_toml import raise_if_any, read_sections
from meshd.errors import ConfigError
from meshd.push.service.config import (
    DEFAULT_LISTEN,
    Limits,
    ServiceConfig,
    parse_listen,
    parse_networks,
    public_url_for,
    with_limits,
)
from meshd.push.service.proxies import HEADERS
from meshd.push.service.stun import OFF
from meshd.push.service.tls import ServerCertificate

# Policy
DEFAULT_FILE = Path("/etc/meshd/push.toml")
LOG_FORMS = ("console", "json")


@dataclass(frozen=True, slots=True)
class ServiceSection:
    """The service and its way to the world."""

    listen: str = setting(
        DEFAULT_LISTEN, "Where HTTP and WebSockets are served. A socket from systemd stands in for it."
    )
    public_url: str = setting(
        "",
        "The origin that others reach it at; endpoints carry it, so a change ends every subscription.",
        default_doc="`http(s)://` and the address listened on",
    )
    stun: str = setting(
        "", "Where STUN is answered (UDP): an address and port, or `off`.", default_doc="address and port of `listen`"
    )
    tls_certificate: str = setting(
        "",
        "A certificate and its chain, PEM, to speak TLS with. Read again at `systemctl reload meshd-push`.",
        default_doc="no TLS: a proxy does that, or nobody",
    )
    tls_key: str = setting("", "Its key, PEM, not encrypted.")
    trusted_proxies: tuple[str, ...] = setting(
        (),
        "Addresses or networks of proxies of yours. Whom they say a request comes from is believed, and nobody else; "
        "quotas by address are that address's then.",
    )
    proxy_header: str = setting(
        HEADERS[0], "The header that those proxies write. The other one may come from anybody.", choices=HEADERS
    )
    metrics_port: int = setting(
        0, "The TCP port on 127.0.0.1 and ::1 at which Prometheus finds `/metrics`; 0: none.", low=0, high=65_535
    )
    fsync: bool = setting(
        False,
        "Answer 201 when the disk itself has the message. Without it a push that was accepted survives the death of "
        "the service in whatever way, but a power cut can cost the last seconds; with it every 201 waits for the disk.",
    )
    log: str = setting("console", "The form of the log, on stderr.", choices=LOG_FORMS)
    verbose: bool = setting(False, "Log every accepted push.")


SECTIONS: Mapping[str, type[Any]] = {"service": ServiceSection, "limits": Limits}


@dataclass(frozen=True, slots=True)
class Settings:
    """What the file and the command line say together. ``file``: the one that was read, or None."""

    config: ServiceConfig
    log: str
    verbose: bool
    file: Path | None


def read(file: Path | None, state_dir: str, given: Mapping[str, Any], limits: Sequence[str] = ()) -> Settings:
    """The settings of ``file``, replaced by what is ``given`` (keys of ``[service]``; None: not given) and ``limits``.

    ``limits``: ``NAME=NUMBER`` each. Raises ConfigError, one line for each thing that is wrong.
    """
    sections, problems = read_sections(read_file(file), str(file), SECTIONS) if file is not None else ({}, [])
    raise_if_any(problems, str(file))
    section: ServiceSection = sections.get("service", ServiceSection())
    values = {key: value for key, value in given.items() if value is not None}

    def said(key: str) -> Any:
        return values.get(key, getattr(section, key))

    certificate, key = said("tls_certificate"), said("tls_key")
    config = ServiceConfig(
        state_dir=Path(state_dir),
        listen=said("listen"),
        public_url=said("public_url") or None,
        stun=said("stun") or None,
        limits=with_limits(sections.get("limits", Limits()), list(limits)),
        tls_certificate=Path(certificate) if certificate else None,
        tls_key=Path(key) if key else None,
        trusted_proxies=tuple(said("trusted_proxies")),
        proxy_header=said("proxy_header"),
        metrics_port=said("metrics_port"),
        fsync=said("fsync"),
    )
    return Settings(config, said("log"), said("verbose"), file)


def check(config: ServiceConfig) -> None:
    """Whether the service could run so, as far as can be told without running it. Raises ConfigError."""
    public_url_for(config, *parse_listen(config.listen))
    if config.stun not in (None, OFF):
        parse_listen(config.stun)
    parse_networks(config.trusted_proxies)
    certificate_of(config)


def certificate_of(config: ServiceConfig) -> ServerCertificate | None:
    """The certificate to serve; None: no TLS. Raises ConfigError."""
    chain, key = config.tls_certificate, config.tls_key
    if chain is None and key is None:
        return None
    if chain is None or key is None:
        raise ConfigError("tls_certificate and tls_key belong together: give both files, or neither")
    return ServerCertificate(chain, key)
