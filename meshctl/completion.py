"""Makes the shells' completion from the verbs' own parsers. Members' names are asked of the daemon as one types."""

from __future__ import annotations

import argparse
from importlib import import_module
from typing import NamedTuple

from meshctl.arguments import parser_for
from meshctl.table import VERBS

# Asked anew at each press of the key. The daemon of the command line is used if it names one by $MESHD_SOCKET.
_NAMES = "meshctl peers --names 2>/dev/null"


class _Option(NamedTuple):
    names: list[str]
    doc: str
    value: str  # "", "peer", "file", or "other"


class _Verb(NamedTuple):
    name: str
    doc: str
    options: list[_Option]
    first: str  # what its first argument is: "peer", or words to choose from, or ""


def script(shell: str) -> str:
    """The completion for bash, zsh or fish."""
    verbs = [_verb(name, doc) for name, doc in VERBS.items()]
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](verbs)


def _verb(name: str, doc: str) -> _Verb:
    actions = parser_for(name, import_module(f"meshctl.verbs.{name}")).added
    options = [
        _Option(list(action.option_strings), action.help or "", _value(action))
        for action in actions
        if action.option_strings
    ]
    arguments = [action for action in actions if not action.option_strings]
    first = ""
    if arguments:
        first = "peer" if arguments[0].dest == "peer" else " ".join(arguments[0].choices or ())
    return _Verb(name, doc, options, first)


def _value(action: argparse.Action) -> str:
    if action.nargs == 0:
        return ""
    if action.dest == "peer":
        return "peer"
    return "file" if action.dest in ("socket", "key_file", "mesh_key", "passphrase_file", "output") else "other"


def _bash(verbs: list[_Verb]) -> str:
    cases = []
    for verb in verbs:
        words = " ".join(name for option in verb.options for name in option.names)
        first = f'"$({_NAMES})"' if verb.first == "peer" else f'"{verb.first}"'
        cases.append(f'        {verb.name}) options="{words}" first={first} ;;')
    by_value: dict[str, list[str]] = {"peer": [], "file": [], "other": []}
    for verb in verbs:
        for option in verb.options:
            if option.value:
                by_value[option.value] += option.names
    names = " ".join(verb.name for verb in verbs)
    peers, files, others = ("|".join(sorted(set(by_value[value]))) for value in ("peer", "file", "other"))
    return f"""\
# bash completion for meshctl; made by: meshctl completion bash
_meshctl() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}} verb="" at=0 i
    local options="" first=""
    COMPREPLY=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${{COMP_WORDS[i]}} in
            --socket) ((i++)) ;;
            -*) ;;
            *) verb=${{COMP_WORDS[i]}} at=$i; break ;;
        esac
    done
    case $before in
        {peers}) COMPREPLY=($(compgen -W "$({_NAMES})" -- "$word")); return ;;
        {files}) COMPREPLY=($(compgen -f -- "$word")); return ;;
        {others}) return ;;
    esac
    case $verb in
        "") options="--help --json --socket --version" first="{names} help" at=$((COMP_CWORD-1)) ;;
        help) first="{names}" ;;
{chr(10).join(cases)}
    esac
    if [[ $word == -* ]]; then
        COMPREPLY=($(compgen -W "$options" -- "$word"))
    elif ((COMP_CWORD == at + 1)); then
        COMPREPLY=($(compgen -W "$first" -- "$word"))
    fi
}}
complete -F _meshctl meshctl
"""


def _zsh(verbs: list[_Verb]) -> str:
    cases = []
    for verb in verbs:
        lines = [f"        {verb.name}) _arguments"]
        for option in verb.options:
            tail = {"": "", "peer": ":peer:_meshctl_peers", "file": ":file:_files", "other": ":value:"}[option.value]
            lines += [f"            '{name}[{_zsh_quoted(option.doc)}]{tail}'" for name in option.names]
        if verb.first:
            lines.append(
                "            '1:peer:_meshctl_peers'"
                if verb.first == "peer"
                else f"            '1:what:({verb.first})'"
            )
        lines.append(
            "            '*: : '"
        )  # further arguments: nothing to offer, but options still complete after them
        cases.append(" \\\n".join(lines) + " ;;")
    names = "\n".join(f"        '{verb.name}:{_zsh_quoted(verb.doc)}'" for verb in verbs)
    return f"""\
#compdef meshctl
# zsh completion for meshctl; made by: meshctl completion zsh
_meshctl_peers() {{
    local -a names
    names=(${{(f)"$({_NAMES})"}})
    compadd -a names
}}
_meshctl() {{
    local -a verbs
    verbs=(
{names}
    )
    if ((CURRENT == 2)); then
        _describe verb verbs
        return
    fi
    local verb=${{words[2]}}
    shift words
    ((CURRENT--))
    case $verb in
{chr(10).join(cases)}
    esac
}}
if [[ $funcstack[1] == _meshctl ]]; then _meshctl "$@"; else compdef _meshctl meshctl; fi
"""


def _fish(verbs: list[_Verb]) -> str:
    lines = ["# fish completion for meshctl; made by: meshctl completion fish", "complete -c meshctl -f"]
    for verb in verbs:
        lines.append(f"complete -c meshctl -n __fish_use_subcommand -a {verb.name} -d '{_fish_quoted(verb.doc)}'")
        inside = f"complete -c meshctl -n '__fish_seen_subcommand_from {verb.name}'"
        if verb.first:
            lines.append(f"{inside} -a '{f'({_NAMES})' if verb.first == 'peer' else verb.first}'")
        for option in verb.options:
            names = " ".join(f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names)
            tail = {"": "", "peer": f" -x -a '({_NAMES})'", "file": " -r -F", "other": " -x"}[option.value]
            lines.append(f"{inside} {names}{tail} -d '{_fish_quoted(option.doc)}'")
    return "\n".join(lines) + "\n"


def _zsh_quoted(text: str) -> str:
    """Inside single quotes, and of no meaning to _arguments and _describe."""
    return "".join(f"\\{char}" if char in "[]:" else char for char in text.replace("\\", "")).replace("'", "'\\''")


def _fish_quoted(text: str) -> str:
    """Inside single quotes."""
    return text.replace("\\", "\\\\").replace("'", "\\'")
