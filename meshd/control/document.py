"""Writes ``docs/control-api.md`` from the table: ``python -m meshd.control.document > docs/control-api.md``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable

from meshd.control import connection, jsonrpc, watchers
from meshd.control.methods import HELLO, LAGGED, METHODS, PROTOCOL, Method, Notice, Param
from meshd.control.shapes import SHAPES, Field
from meshd.errors import Code

_PREFACE = f"""\
# The control socket

<!-- Made by `python -m meshd.control.document`; change the tables in meshd/control/, not this file. -->

The daemon listens on a Unix stream socket: `$MESHD_SOCKET`, else `$XDG_RUNTIME_DIR/meshd/meshd.sock` if it is there,
else `/run/meshd/meshd.sock`. It speaks [JSON-RPC 2.0](https://www.jsonrpc.org/specification), one object a line, in
UTF-8. `meshctl` is a client; so is `socat`:

```
$ socat -t 5 - UNIX:/run/meshd/meshd.sock
{{"jsonrpc":"2.0","method":"hello","params":{{"protocol":{PROTOCOL},"version":"…","peer_id":"…"}}}}
{{"jsonrpc":"2.0","id":1,"method":"node.version"}}
{{"jsonrpc":"2.0","id":1,"result":{{"version":"…","protocol":{PROTOCOL},"peer_id":"…"}}}}
```

- The first line comes from the daemon. A client that speaks another protocol than it names should stop.
- Parameters go by name; one that is null counts as left out. Unknown ones are refused. Batches are not spoken.
- Requests on one connection run side by side, at most {connection.MAX_REQUESTS_IN_FLIGHT}; answers come as they are
  ready, so match them by `id`. A notification from a client (a call without `id`) does nothing.
- A line may have {jsonrpc.MAX_LINE_SIZE:,} bytes and nesting of {jsonrpc.MAX_DEPTH}. A longer line is answered with
  an error and skipped; the connection lives on. A connection may be idle for ever.
- A method that needs a file descriptor says so. It goes with the request by SCM_RIGHTS (unix(7)), in one `sendmsg` with
  the line, one for each request. It is the daemon's from then on: close your copy. One that nobody asked for is closed.
- Closing the connection cancels what it has running. Closing only the sending half does not: answers still come.
- Fields may be added to results, and `counters`, events and errors may become more, without a new protocol number.
"""

_KINDS = """\
## Kinds

| kind | is |
|---|---|
| `string` `boolean` `integer` `number` | as in JSON |
| `seconds` | a duration, a number |
| `time` | RFC 3339 in UTC with milliseconds: `2025-03-01T12:00:00.000Z` |
| `bytes` | base64url without padding (RFC 4648 section 5) |
| `id` | base32, lower case, without padding |
| `any` | whatever JSON can say |
| `up\\|none` | one of these texts |
| `peer` | an object, see [Shapes](#shapes) |
| `[kind]` | a list of it |
| `{kind}` | an object with any keys and such values |
| `kind?` | it, or null |
"""

_PERMISSIONS = """\
## Permissions

The kernel tells the daemon who is calling (SO_PEERCRED). Root, the daemon's own user and members of the admin group
(`[control] admin_group`, `meshd` unless changed) are **admin**; members of `write_group`, if one is configured, may
**write**; everybody else who can open the socket may **read**. Each includes those before it. The socket's own mode is
0660, so that as it comes only root and the group get in at all.
"""

_SUBSCRIPTIONS = f"""\
## Subscriptions

A subscription answers once, then sends notifications on the same connection until it is closed: first how things are,
then every change, numbered by `seq`. A connection has each subscription at most once. A client that leaves more than
{watchers.MAX_WATCHER_LINES:,} lines or {watchers.MAX_WATCHER_SIZE >> 20} MiB unread gets `lagged` if it still can,
and is closed.
"""

_MESHCTL = """\
## meshctl --json

`meshctl VERB --json` prints the result of the verb's method (`meshctl VERB --help` names it) as one document on one
line. `listen` prints one `message` object a line; `events` one object a line, each notification's fields with its
name as `notice`. Errors go to standard error as `{"error": {"symbol": …, "message": …, "exit_status": …}}`; symbols
beside those below are `usage` (status 2), `unreachable` (3), `protocol_skew`, `version_skew`,
`key_file` and `output_file` (1).
"""


def document() -> str:
    """The whole file."""
    parts = [_PREFACE, _KINDS, _PERMISSIONS, _SUBSCRIPTIONS]
    parts += [_of_notice(notice, "Notification") for notice in (HELLO, LAGGED)]
    parts.append("## Methods\n\n" + _rows(("method", "permission"), [_entry(method) for method in METHODS.values()]))
    parts += [_of_method(method) for method in METHODS.values()]
    parts.append("## Shapes\n")
    parts += [f"### {name}\n\n{_of_fields(fields)}" for name, fields in SHAPES.items()]
    parts.append(_of_errors())
    parts.append(_MESHCTL)
    return "\n".join(parts)


def _entry(method: Method) -> tuple[str, str]:
    return f"[`{method.name}`](#{method.name.replace('.', '')})", method.permission


def _of_method(method: Method) -> str:
    call = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method.name, "params": method.example}, ensure_ascii=False)
    text = f"### {method.name}\n\n{method.doc} Permission: **{method.permission}**.\n\n```json\n{call}\n```\n"
    if method.descriptor:
        text += f"\nPass a file descriptor with it: {method.descriptor}\n"
    if method.params:
        rows = [(f"`{param.name}`", _kind(param.kind), _bounds(param), param.doc) for param in method.params]
        text += "\n" + _rows(("parameter", "kind", "", ""), rows)
    if method.result:
        text += "\nResult:\n\n" + _of_fields(method.result)
    else:
        text += "\nResult: an empty object.\n"
    return text + "".join("\n" + _of_notice(notice, "Then notification") for notice in method.notices)


def _of_notice(notice: Notice, word: str) -> str:
    return f"{word} `{notice.name}`: {notice.doc}\n\n{_of_fields(notice.fields)}"


def _of_fields(fields: Iterable[Field]) -> str:
    return _rows(("field", "kind", ""), [(f"`{field.name}`", _kind(field.kind), field.doc) for field in fields])


def _bounds(param: Param) -> str:
    words = ["required" if param.required else "optional"]
    if param.default is not None:
        words.append(f"default `{json.dumps(param.default)}`")
    if param.low is not None and param.high is not None:
        words.append(f"{param.low:,g} to {param.high:,.15g}{_UNITS.get(param.kind.strip('[]?'), '')}")
    return ", ".join(words)


_UNITS = {"bytes": " bytes", "string": " characters", "id": " entries", "seconds": " s"}


def _of_errors() -> str:
    rows = [
        (f"`{code.symbol}`", str(code.value.number), str(code.value.exit_status), code.value.message) for code in Code
    ]
    example = {"code": Code.PEER_UNKNOWN.value.number, "message": f"{Code.PEER_UNKNOWN.value.message} 'desc'"}
    example["data"] = {"symbol": "peer_unknown", "detail": "'desc'", "exit_status": 1}
    return (
        "## Errors\n\nPrograms go by `data.symbol`; `message` is for people and may change; `data.exit_status` is what "
        f"`meshctl` exits with.\n\n```json\n{json.dumps(example)}\n```\n\n"
        + _rows(("symbol", "code", "exit status", "message"), rows)
    )


def _kind(kind: str) -> str:
    return f"`{kind}`".replace("|", "\\|")  # a bare one would end the cell


def _rows(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join(f"| {' | '.join(cell for cell in line)} |\n" for line in lines)


if __name__ == "__main__":
    sys.stdout.write(document())
