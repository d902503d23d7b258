"""Finds the verb, runs it, and turns what went wrong into one sentence and an exit status.

0 done, 1 refused, 2 usage, 3 daemon unreachable; 130 interrupted, 141 nobody reads the output any more.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module

from meshctl.table import LOCAL_VERBS, VERBS

USAGE = "usage: meshctl [--socket PATH] [--json] VERB [ARGUMENT…]"


def main(words: Sequence[str] | None = None) -> int:
    """Run one command line; gives the exit status."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a terminal without UTF-8 still gets its answer
    try:
        status = _run(list(sys.argv[1:] if words is None else words))
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or the interpreter complains when it flushes at the end
        return 141
    return status


def _run(words: list[str]) -> int:
    common: list[str] = []
    while words and words[0].startswith("-"):
        word = words.pop(0)
        if word in ("-h", "--help"):
            return _help([])
        if word in ("-V", "--version"):
            from meshd import VERSION

            print(f"meshctl {VERSION}")
            return 0
        if word == "--socket" and words:
            common += [word, words.pop(0)]
        elif word == "--json" or word.startswith("--socket="):
            common.append(word)
        else:
            return _wrong_use(f"{word} is no option of meshctl itself, or lacks its value.")
    if not words:
        return _wrong_use("There is no verb.")
    verb, *rest = words
    if verb == "help":
        return _help(rest)
    if verb not in VERBS:
        from meshctl.arguments import suggestion

        return _wrong_use(f"{verb!r} is no verb.{suggestion(verb)}")
    return _run_verb(verb, common, rest)


def _run_verb(verb: str, common: list[str], words: list[str]) -> int:
    from meshctl import arguments, client, render

    module = import_module(f"meshctl.verbs.{verb}")
    as_json = "--json" in common
    try:
        args = arguments.parse(verb, module, [*common, *words])
        if verb in LOCAL_VERBS:
            return int(module.run(args))
        as_json = args.json
        session = client.Client(args.socket)
        try:
            return int(module.run(args, session))
        finally:
            if session.is_skewed() and verb != "version":
                from meshd import VERSION

                render.note(f"Warning: meshctl {VERSION} talks to meshd {session.version}; restart the older one.")
            session.close()
    except arguments.UsageError as error:
        return _fail(2, str(error), "usage", as_json)
    except client.UnreachableError as error:
        return _fail(3, str(error), "unreachable", as_json)
    except client.RefusedError as error:
        return _fail(error.exit_status, error.message, str(error.data.get("symbol", "")), as_json)
    except KeyError as error:
        return _fail(1, f"The daemon's answer lacks {error}; is it of another version?", "version_skew", as_json)
    except SystemExit as end:  # argparse has printed its help
        return int(end.code or 0)


def _fail(status: int, text: str, symbol: str, as_json: bool) -> int:
    from meshctl import render

    sys.stdout.flush()
    if as_json:
        import json

        error = {"error": {"symbol": symbol, "message": text, "exit_status": status}}
        print(json.dumps(error), file=sys.stderr)
    else:
        render.note(f"meshctl: {text}")
    return status


def _wrong_use(text: str) -> int:
    from meshctl import render

    render.note(f"meshctl: {text} See: meshctl help")
    print(USAGE, file=sys.stderr)
    return 2


def _help(words: list[str]) -> int:
    if words:
        return _run([words[0], "--help"])
    width = max(map(len, VERBS))
    print(f"{USAGE}\n\nTalks to the meshd of this machine.\n")
    for verb, summary in VERBS.items():
        print(f"  {verb.ljust(width)}  {summary}")
    print(
        "\n  --socket PATH  the daemon's control socket; else $MESHD_SOCKET, else $XDG_RUNTIME_DIR/meshd/meshd.sock\n"
        "                 if it is there, else /run/meshd/meshd.sock\n"
        "  --json         print JSON, which stays the same from version to version\n"
        "  --version      print the version of meshctl\n\n"
        "Exit status: 0 done, 1 refused, 2 wrong use, 3 no daemon. More on each: meshctl VERB --help\n\n"
        "Example:\n  meshctl peers"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
