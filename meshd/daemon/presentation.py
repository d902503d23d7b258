"""Between the core's values and JSON: ids, bytes and times by the kinds that the table of control methods names.

The core has bytes for ``id`` and ``bytes``, Unix seconds for ``time``; JSON has text. ``meshd.control.shapes`` lists
the kinds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from meshd.control.encodings import decode_bytes, decode_time, encode_bytes, encode_time
from meshd.control.methods import Method
from meshd.control.shapes import SHAPES, Field
from meshd.daemon import redaction
from meshd.errors import LocalMisuse
from meshd.ids import from_text, text_of


def to_json(kind: str, value: Any) -> Any:
    """A value of the core as JSON. Raises LocalMisuse for an object that lacks a field."""
    if value is None or kind.endswith("?"):
        return None if value is None else to_json(kind[:-1], value)
    if kind.startswith("["):
        return [to_json(kind[1:-1], entry) for entry in value]
    if kind.startswith("{"):
        return {str(key): to_json(kind[1:-1], entry) for key, entry in value.items()}
    if kind in SHAPES:
        return fields_to_json(SHAPES[kind], value)
    match kind:
        case "id":
            return text_of(value) if isinstance(value, bytes) else value
        case "bytes":
            return encode_bytes(value) if isinstance(value, bytes) else value
        case "time":
            return value if isinstance(value, str) else encode_time(value)
        case "any":
            return redaction.shown(value)
    return value


def fields_to_json(fields: Iterable[Field], value: Mapping[str, Any]) -> dict[str, Any]:
    """Exactly these fields of an object. Raises LocalMisuse if one is missing."""
    try:
        return {field.name: to_json(field.kind, value[field.name]) for field in fields}
    except KeyError as error:
        raise LocalMisuse(f"the field {error} is missing") from None


def params_from_json(method: Method, params: Mapping[str, Any]) -> dict[str, Any]:
    """Checked parameters of a request as the core wants them."""
    return {param.name: _from_json(param.kind, params.get(param.name)) for param in method.params}


def _from_json(kind: str, value: Any) -> Any:
    if value is None:
        return None
    if kind.startswith("["):
        return [_from_json(kind[1:-1], entry) for entry in value]
    match kind:
        case "id":
            return from_text(value)
        case "bytes":
            return decode_bytes(value)
        case "time":
            return decode_time(value)
    return value
