"""The configuration file's text to a ``Config``, and single values back to TOML.

Pure: text goes in; a ``Config`` or one ``ConfigError`` comes out, which names the file, the key and what to write.
"""

from __future__ import annotations

import difflib
import json
import math
import tomllib
from collections.abc import Mapping
from typing import Any

from meshd.config import SECTIONS, Config, LinksConfig, PushConfig, Setting, settings_of
from meshd.errors import ConfigError
from meshd.push_services import OWN

# Policy
MAX_CONFIG_SIZE = 65_536  # characters; hundreds of times what it takes, so a wrong file is refused rather than read
MAX_TEXT_CHARS = 1_024  # the longest URL that makes sense here
MAX_PROBLEMS = 20  # reported at once; beyond that it is the wrong file


def parse(text: str, file: str = "configuration") -> Config:
    """The configuration that ``text`` (TOML) describes. ``file`` is its name in messages.

    Raises ConfigError, one line for each thing that is wrong.
    """
    sections, problems = read_sections(text, file, SECTIONS)
    config = Config(**sections)
    if config.mesh.link_timeout < 2 * config.mesh.heartbeat_interval:
        problems.append(
            f"{file}: [mesh] link_timeout = {config.mesh.link_timeout:g} is less than two heartbeats of "
            f"{config.mesh.heartbeat_interval:g} s: links would die for no reason; "
            f"write link_timeout = {4 * config.mesh.heartbeat_interval:g}"
        )
    problems += [f"{file}: [links] {line}" for line in _check_ice(config.links)]
    problems += [f"{file}: [push] {line}" for line in _check_own_service(config.push)]
    raise_if_any(problems, file)
    return config


def read_sections(text: str, file: str, known: Mapping[str, type[Any]]) -> tuple[dict[str, Any], list[str]]:
    """An object of its class for each section of ``known`` that stands in ``text``, and a line for each thing wrong.

    Raises ConfigError for what is no TOML.
    """
    if len(text) > MAX_CONFIG_SIZE:
        raise ConfigError(f"{file}: larger than {MAX_CONFIG_SIZE:,} characters; is this the right file?")
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: also a number with too many digits
        raise ConfigError(f"{file}: not TOML: {error}; mend that line") from None
    problems: list[str] = []
    sections: dict[str, Any] = {}
    for name, table in document.items():
        if name not in known:
            problems.append(f"{file}: {_unknown_top(name, table, known)}")
        elif not isinstance(table, dict):
            problems.append(f"{file}: {name} = … stands outside a section; write [{name}] and its keys below")
        else:
            values, wrong = read_section(name, known[name], table)
            problems += [f"{file}: {line}" for line in wrong]
            sections[name] = known[name](**values)
    return sections, problems


def raise_if_any(problems: list[str], file: str) -> None:
    """Raises ConfigError with the first of them, if there are any."""
    if problems:
        more = [f"{file}: … and {len(problems) - MAX_PROBLEMS} more"] if len(problems) > MAX_PROBLEMS else []
        raise ConfigError("\n".join(problems[:MAX_PROBLEMS] + more))


def _check_ice(links: LinksConfig) -> list[str]:
    """What does not go together: a server that would never be asked is a mistake, and not to be found out at night."""
    problems = []
    if links.stun_servers and links.ice not in ("stun", "turn"):
        problems.append(f'stun_servers = … and ice = "{links.ice}": they are not asked then; write ice = "stun"')
    if links.turn_servers and links.ice not in ("turn", "relay_only"):
        problems.append(f'turn_servers = … and ice = "{links.ice}": they are not used then; write ice = "turn"')
    if links.ice in ("turn", "relay_only") and not links.turn_servers:
        problems.append(f'ice = "{links.ice}" without turn_servers: name one of them, or write ice = "stun"')
    if links.announce and not links.port:
        problems.append("announce = … without port: write the port that the router forwards to, as port = 7_000")
    if links.announce and links.ice == "relay_only":
        problems.append('announce = … and ice = "relay_only": peers are told of relays alone; take one of the two out')
    if links.turn_servers and not links.turn_credentials:
        problems.append("turn_servers = … without turn_credentials: name a file of two lines, user and password")
    return problems


def _check_own_service(push: PushConfig) -> list[str]:
    """Our own push service: all of it, or nothing."""
    problems = []
    if OWN in push.services and not (push.own_listen and push.own_url):
        problems.append(f'services = ["{OWN}"] needs own_listen (where it is served) and own_url (as others reach it)')
    if bool(push.own_tls_certificate) != bool(push.own_tls_key):
        problems.append("own_tls_certificate and own_tls_key belong together: name both files, or neither")
    return problems


def _unknown_top(name: str, table: object, sections: Mapping[str, type[Any]]) -> str:
    if not isinstance(table, dict):
        home = [section for section, kind in sections.items() if name in settings_of(kind)]
        hint = f"put it below [{home[0]}]" if home else "every key belongs below a [section]"
        return f"{name!r} stands outside a section; {hint}"
    return f"there is no section [{name}]; {_suggest(name, list(sections), '[{}]')}"


def _suggest(name: str, known: list[str], form: str) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f"did you mean {form.format(near[0])}?" if near else f"there are: {', '.join(known)}"


def read_section(section: str, kind_of: type[Any], table: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The usable values of a section, and a sentence for each unusable one."""
    known = settings_of(kind_of)
    values: dict[str, Any] = {}
    wrong: list[str] = []
    for key, value in table.items():
        if key not in known:
            wrong.append(f"[{section}] has no key {key!r}; {_suggest(key, list(known), '{}')}")
            continue
        setting, kind, default = known[key]
        try:
            values[key] = _read_value(value, setting, kind)
        except ValueError as error:
            shown = _shown(value)
            example = f"; the default is {toml_of(default)}"
            wrong.append(f"[{section}] {key} = {shown}: write {error}{example}")
    return values, wrong


def _shown(value: object) -> str:
    try:
        return toml_of(value)[:80]
    except (TypeError, ValueError, RecursionError):  # a table or date; an integer too long to print
        return "…"


def _read_value(value: object, setting: Setting, kind: object) -> object:
    """``value`` as a field of type ``kind``. Raises ValueError with what should have been written."""
    if kind is bool:
        if not isinstance(value, bool):
            raise ValueError("true or false, without quotes")
        return value
    if kind is int or kind is float:
        return _read_number(value, setting, whole=kind is int)
    if kind is str:
        return _read_text(value, setting)
    if not isinstance(value, list) or len(value) > setting.max_entries:
        raise ValueError(f"a list of at most {setting.max_entries} texts in brackets")
    entries = tuple(_read_text(entry, setting) for entry in value)
    if len(set(entries)) != len(entries):
        raise ValueError("each entry once")
    return entries


def _read_number(value: object, setting: Setting, *, whole: bool) -> float:
    # bool is an int to Python, not to a reader; nan fails both comparisons
    fits = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
    if not fits or not (setting.low or 0) <= value <= (setting.high or math.inf):  # type: ignore[operator]
        raise ValueError(range_text(setting, whole=whole))
    return value if whole else float(value)  # type: ignore[arg-type,return-value]


def _read_text(value: object, setting: Setting) -> str:
    if setting.choices and value not in setting.choices:
        raise ValueError("one of " + ", ".join(f'"{choice}"' for choice in setting.choices))
    if not isinstance(value, str) or len(value) > MAX_TEXT_CHARS or not value.isprintable():
        raise ValueError(f"text in quotes, at most {MAX_TEXT_CHARS} printable characters")
    if setting.check is not None and (wanted := setting.check(value)):
        raise ValueError(wanted)
    return value


def range_text(setting: Setting, *, whole: bool) -> str:
    """What may be written for a number: ``a whole number from 2 to 4_096``."""
    noun = "a whole number" if whole else "a number"
    unit = f" of {setting.unit}" if setting.unit else ""
    return f"{noun}{unit} from {setting.low or 0:,g} to {setting.high:,.0f}".replace(",", "_")


def toml_of(value: object) -> str:
    """One value as TOML. Raises TypeError for a kind that no setting has."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return f"{value:_}"
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # TOML's escapes are JSON's, and DEL
    if isinstance(value, (tuple, list)):
        return "[" + ", ".join(toml_of(entry) for entry in value) + "]"
    raise TypeError(f"no setting is a {type(value).__name__}")
