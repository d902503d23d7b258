"""``meshd-push``: the push service as a command and a systemd service."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import socket
import sys
from pathlib import Path

import structlog
import trio

from meshd import VERSION, systemd
from meshd.errors import ConfigError, StoreError
from meshd.push.service.app import PushService, serve
from meshd.push.service.config import DEFAULT_LISTEN, Limits, ServiceConfig, with_limits

# Policy
_STATUS_INTERVAL = 15.0  # seconds between two STATUS lines for systemd
_EXIT_REFUSED = 1
_EXIT_USAGE = 2


def main() -> None:
    """Parse the command line, run until SIGTERM or SIGINT, exit 0; 1 when it cannot run, 2 for a wrong command line."""
    arguments = _parser().parse_args()
    _set_up_logs(arguments.log, arguments.verbose)
    state = arguments.state or os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    try:
        if not state:
            raise ConfigError("no state directory: give --state DIR")
        config = ServiceConfig(
            state_dir=Path(state),
            listen=arguments.listen,
            public_url=arguments.public_url,
            stun=arguments.stun,
            limits=with_limits(Limits(), arguments.limit),
        )
        trio.run(_run, config)
    except ConfigError as error:
        _fail(str(error), _EXIT_USAGE)
    except StoreError as error:
        _fail(str(error), _EXIT_REFUSED)
    except OSError as error:
        where = " or ".join(filter(None, (arguments.listen, arguments.stun)))
        _fail(f"cannot listen on {where}: {error.strerror or error}", _EXIT_REFUSED)


async def _run(config: ServiceConfig) -> None:
    listeners = systemd.as_listeners(systemd.take_sockets(os.environ, (socket.AF_INET, socket.AF_INET6)))
    notifier = systemd.Notifier(os.environ)
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
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
                async for _ in signals:
                    break
                notifier.stopping("stopping")
                nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            ours, others = group.split((ConfigError, StoreError, OSError))
            if ours is None or others is not None:
                raise
            raise _first(ours) from None


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
        epilog="example: meshd-push --listen 0.0.0.0:8085 --public-url https://push.example.net --state /var/lib/push",
    )
    parser.add_argument("--listen", default=DEFAULT_LISTEN, metavar="HOST:PORT", help="default %(default)s")
    parser.add_argument("--state", metavar="DIR", help="where it keeps its database; default $STATE_DIRECTORY")
    parser.add_argument("--public-url", metavar="URL", help="the origin that others reach it at; default http://LISTEN")
    parser.add_argument(
        "--stun", metavar="HOST:PORT", help='where STUN is answered (UDP), or "off"; default: the port of --listen'
    )
    parser.add_argument("--log", choices=("json", "console"), default="console", help="form of the log, on stderr")
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
