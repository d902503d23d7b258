"""Writes the configurations' reference and examples from their definition: ``python -m meshd.daemon.document_config``.

Run in the project's top directory; a test compares both files with what this makes.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from meshd.config import SECTIONS, Setting, settings_of
from meshd.config_setting import MAX_LIST_ENTRIES
from meshd.config_toml import range_text, toml_of
from meshd.push.service.configuration import SECTIONS as PUSH_SECTIONS

WIDTH = 100  # columns of the example file
REFERENCE = "docs/configuration.md"
EXAMPLE = "systemd/meshd.toml"
PUSH_EXAMPLE = "systemd/push.toml"

_REFERENCE_HEAD = """\
# Configuration

<!-- Made by `python -m meshd.daemon.document_config` from `meshd/config.py`; change that, not this. -->

One TOML file: `--config FILE`, else `$CONFIGURATION_DIRECTORY/meshd.toml`, else `/etc/meshd/meshd.toml` if it exists.
Every section and key may be left out; so may the file. Unknown sections and keys are refused, with a suggestion.
`meshd --check-config` says whether a file is good; `systemctl reload meshd` (SIGHUP) reads it again. Keys marked
*reload* take effect then, the others at the next start. A bad file at a reload changes nothing and is reported.

The same as a file to copy, every key explained: [`systemd/meshd.toml`](../systemd/meshd.toml).
`meshctl config show` prints what is in force.
"""

_EXAMPLE_HEAD = """\
# meshd's configuration. Copy to /etc/meshd/meshd.toml; meshd runs without it, too.
# Each key stands here with its default, commented out. "reload": `systemctl reload meshd` is enough;
# "restart": takes effect at the next start. Check with: meshd --check-config
# Made by `python -m meshd.daemon.document_config` from meshd/config.py.
"""

_PUSH_EXAMPLE_HEAD = """\
# meshd-push's configuration. Copy to /etc/meshd/push.toml; meshd-push runs without it, too.
# Each key stands here with its default, commented out. Check with: meshd-push --check-config
# It takes effect at the next start; a renewed certificate at `systemctl reload meshd-push`.
# Made by `python -m meshd.daemon.document_config` from meshd/push/service/.
"""


def values_text(setting: Setting, kind: object) -> str:
    """What a key may be set to: ``a number of seconds from 1 to 120``."""
    if kind is bool:
        return "true or false"
    if kind is int or kind is float:
        return range_text(setting, whole=kind is int)
    if setting.choices:
        return "one of " + ", ".join(f"`{toml_of(choice)}`" for choice in setting.choices)
    few = f"at most {setting.max_entries} " if setting.max_entries < MAX_LIST_ENTRIES else ""
    return "text" if kind is str else f"a list of {few}texts"


def reference() -> str:
    """The text of ``docs/configuration.md``."""
    parts = [_REFERENCE_HEAD]
    for name, section in SECTIONS.items():
        parts.append(f"\n## `[{name}]`\n\n{section.__doc__}\n")
        parts.append("\n| key | default | values | takes effect | what it does |\n|---|---|---|---|---|\n")
        for key, (setting, kind, default) in settings_of(section).items():
            when = "reload" if setting.reload else "restart"
            shown = _default_text(setting, default)
            parts.append(f"| `{key}` | {shown} | {values_text(setting, kind)} | {when} | {setting.doc} |\n")
    return "".join(parts)


def example() -> str:
    """The text of the daemon's example file: every key with its default, commented out."""
    return _example(_EXAMPLE_HEAD, SECTIONS, show_when=True)


def push_example() -> str:
    """The text of the push service's example file."""
    return _example(_PUSH_EXAMPLE_HEAD, PUSH_SECTIONS, show_when=False)


def push_reference() -> str:
    """The tables of the push service's settings, a part of ``docs/push.md``."""
    parts = []
    for name, section in PUSH_SECTIONS.items():
        parts.append(f"\n`[{name}]`\n\n| key | default | values | what it does |\n|---|---|---|---|\n")
        for key, (setting, kind, default) in settings_of(section).items():
            shown = _default_text(setting, default)
            parts.append(f"| `{key}` | {shown} | {values_text(setting, kind)} | {setting.doc} |\n")
    return "".join(parts)


def _default_text(setting: Setting, default: Any) -> str:
    return f"`{toml_of(default)}`" + (f": {setting.default_doc}" if setting.default_doc else "")


def _example(head: str, sections: Mapping[str, type[Any]], *, show_when: bool) -> str:
    parts = [head]
    for name, section in sections.items():
        parts.append(f"\n# {(section.__doc__ or '').replace('`', '')}\n[{name}]\n")
        for key, entry in settings_of(section).items():
            parts.append("\n" + _example_key(key, *entry, show_when=show_when))
    return "".join(parts)


def _example_key(key: str, setting: Setting, kind: object, default: Any, *, show_when: bool) -> str:
    about = setting.doc.replace("`", "")
    lines = textwrap.wrap(about, WIDTH - 2, break_on_hyphens=False, break_long_words=False)
    if setting.default_doc:
        lines += textwrap.wrap(f"Default: {setting.default_doc}".replace("`", ""), WIDTH - 2, break_on_hyphens=False)
    when = f"; {'reload' if setting.reload else 'restart'}" if show_when else ""
    lines.append(f"{values_text(setting, kind)}{when}".replace("`", ""))
    return "".join(f"# {line}\n" for line in lines) + f"#{key} = {toml_of(default)}\n"


FILES: Mapping[str, Callable[[], str]] = {REFERENCE: reference, EXAMPLE: example, PUSH_EXAMPLE: push_example}


def main() -> None:
    """Write the files below the current directory."""
    for path, made in FILES.items():
        Path(path).parent.mkdir(exist_ok=True)
        Path(path).write_text(made())


if __name__ == "__main__":
    main()
