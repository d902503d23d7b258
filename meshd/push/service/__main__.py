"""``meshd-push``: the push service as a command and a systemd service."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import resource
import signal
import socket
import sys

import structlog
import trio

from meshd import VERSION, systemd
from meshd.config_file import find_file
from meshd.errors import ConfigError, ListenError, StoreError
from meshd.push.service import configuration
from meshd.push.service.app import PushService, serve
from meshd.push.service.config import DEFAULT_LISTEN, ServiceConfig
from meshd.push.service.configuration import DEFAULT_FILE, LOG_FORMS
from meshd.push.service.delivery import log

# Policy
_STATUS_INTERVAL = 15.0  # seconds between two STATUS lines for systemd
_OTHER_DESCRIPTORS = 64  # files, listeners, the loop's own
_EXIT_REFUSED = 1
_EXIT_USAGE = 2


def main() -> None:
    """Parse the command line, run until SIGTERM or SIGINT, exit 0; 1 when it cannot run, 2 for a wrong command line."""
    given = _parser().parse_args()
    state = given.state or os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    try:
        file = find_file(given.config, os.environ, DEFAULT_FILE)
        settings = configuration.read(
            file,
            state,
            {
                "listen": given.listen,
                "public_url": given.public_url,
                "stun": given.stun,
                "log": given.log,
                "verbose": given.verbose or None,
            },
            given.limit,
        )
        config = settings.config
        if given.check_config:
            configuration.check(config)
            sys.stdout.write(f"{file}: good\n" if file else "no configuration file: the defaults are in force\n")
            return
        if not state:
            raise ConfigError("no state directory: give --state DIR")
        _set_up_logs(settings.log, settings.verbose)
        _allow_descriptors(config.limits.max_connections + _OTHER_DESCRIPTORS)
        trio.run(_run, config)
    except ConfigError as error:
        _fail(str(error), _EXIT_USAGE)
    except (StoreError, ListenError) as error:
        _fail(str(error), _EXIT_REFUSED)


async def _run(config: ServiceConfig) -> None:
    listeners = systemd.as_listeners(systemd.take_sockets(os.environ, (socket.AF_INET, socket.AF_INET6)))
    notifier = systemd.Notifier(os.environ)
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        try:
            async with trio.open_nursery() as nursery:

                async def run_service(*, task_status: trio.TaskStatus[PushService]) -> None:
                    await serve(config, listeners=listeners, task_status=task_status)

                service: PushService = await nursery.start(run_service)
                port = f" (port {service.port})" if config.public_url else ""
                sys.stdout.write(f"meshd-push ready: {service.public_url}{port}\n")
                sys.stdout.flush()
                notifier.ready(service.status())
                nursery.start_soon(_report, service, notifier)
                async for received in signals:
                    if received != signal.SIGHUP:
                        break
                    _reload(service, notifier)
                notifier.stopping("stopping")
                nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            ours, others = group.split((ConfigError, StoreError, ListenError))
            if ours is None or others is not None:
                raise
            raise _first(ours) from None


def _allow_descriptors(wanted: int) -> None:
    """A shell allows 1,024 as a rule and much more for the asking; without them connections would be refused."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted if wanted <= hard or hard < 0 else hard, hard))


def _reload(service: PushService, notifier: systemd.Notifier) -> None:
    notifier.reloading()
    try:
        service.reload()
        notifier.ready(service.status())
        log.info("reloaded")
    except ConfigError as error:
        log.error("reload_failed", reason=str(error))
        notifier.ready(f"the certificate was not renewed: {error}")


async def _report(service: PushService, notifier: systemd.Notifier) -> None:
    """Keep systemd informed, and its watchdog quiet as long as this loop turns."""
    interval = min(_STATUS_INTERVAL, notifier.watchdog_interval or _STATUS_INTERVAL)
    while True:
        await trio.sleep(interval)
        notifier.watchdog()
        notifier.status(service.status())


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="meshd-push",
        description="A Web Push service: RFC 8030, 8291 and 8292 for senders, autopush's WebSocket for user agents.",
        epilog="example: meshd-push --listen 0.0.0.0:8085 --public-url https://push.example.net --state /var/lib/push. "
        "What the command line says goes before the file; docs/push.md has every key.",
    )
    parser.add_argument(
        "--config", metavar="FILE", help=f"default: $CONFIGURATION_DIRECTORY/push.toml, {DEFAULT_FILE}, if it is there"
    )
    parser.add_argument("--check-config", action="store_true", help="say whether the configuration is good, and exit")
    parser.add_argument("--listen", metavar="HOST:PORT", help=f"default {DEFAULT_LISTEN}")
    parser.add_argument("--state", metavar="DIR", help="where it keeps its database; default $STATE_DIRECTORY")
    parser.add_argument("--public-url", metavar="URL", help="the origin that others reach it at; default http://LISTEN")
    parser.add_argument(
        "--stun", metavar="HOST:PORT", help='where STUN is answered (UDP), or "off"; default: the port of --listen'
    )
    parser.add_argument("--log", choices=LOG_FORMS, help="form of the log, on stderr; default console")
    parser.add_argument("--verbose", action="store_true", help="log every accepted push")
    parser.add_argument("--limit", action="append", default=[], metavar="NAME=NUMBER", help="change a limit")
    parser.add_argument("--version", action="version", version=f"meshd-push {VERSION}")
    return parser


def _set_up_logs(form: str, verbose: bool) -> None:
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if form == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG if verbose else logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )


def _fail(message: str, status: int) -> None:
    sys.stderr.write(f"meshd-push: {message}\n")
    raise SystemExit(status)


if __name__ == "__main__":
    main()
