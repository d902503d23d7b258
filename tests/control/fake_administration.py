"""What a fake daemon answers about who may what: members, admins, keys, capabilities."""

from __future__ import annotations

import os
from typing import Any

from fake_values import DESK_ID, EVIL_ID, OWN_ID, STARTED, find

from meshd.control.encodings import decode_bytes, encode_bytes, encode_time
from meshd.control.passing import Passed
from meshd.errors import Code, ControlError
from meshd.ids import short, text_of


class Administration:
    async def _members_revoke(self, params: dict[str, Any]) -> dict[str, Any]:
        peer_id, name = find(params["peer"])
        if params["mesh_key"] and decode_bytes(params["mesh_key"]) == bytes(32):
            raise ControlError(Code.MESH_KEY_WRONG)
        entry = {"peer_id": text_of(EVIL_ID), "name": "x\x1b[31my", "known_since": encode_time(STARTED)}
        return {
            "peer_id": text_of(peer_id),
            "name": name,
            "admin": False,
            "member": True,
            "done": not params["preview"],
            "kept": [] if params["all"] else [entry],
            "fallen": [entry] if params["all"] else [],
        }

    async def _revocations_list(self, params: dict[str, Any]) -> dict[str, Any]:
        entry = {
            "peer_id": text_of(EVIL_ID),
            "name": "tab\x1b[1mlet",
            "scope": "member",
            "by": None,
            "revoked_at": encode_time(STARTED),
            "void_from": encode_time(STARTED),
            "kept": 2,
            "until": encode_time(STARTED + 4e8),
        }
        if self.state == "no_mesh":
            return {"revocations": []}
        return {"revocations": [entry, {**entry, "by": "desk", "void_from": None, "kept": 0, "name": ""}]}

    async def _admins_list(self, params: dict[str, Any]) -> dict[str, Any]:
        admin = {
            "peer_id": text_of(DESK_ID),
            "short_id": short(DESK_ID),
            "name": "desk",
            "this_node": True,
            "appointed_at": encode_time(STARTED),
            "expires_at": encode_time(STARTED + 3e8),
        }
        return {"admins": [] if self.state == "no_mesh" else [admin]}

    async def _admins_appoint(self, params: dict[str, Any]) -> dict[str, Any]:
        if decode_bytes(params["mesh_key"]) == bytes(32):
            raise ControlError(Code.MESH_KEY_WRONG)
        peer_id, name = find(params["peer"])
        return {"peer_id": text_of(peer_id), "name": name}

    async def _admins_remove(self, params: dict[str, Any]) -> dict[str, Any]:
        return {**await self._admins_appoint(params), "admins_left": 0}

    async def _keys_show(self, params: dict[str, Any]) -> dict[str, Any]:
        key, made = encode_bytes(DESK_ID), encode_time(STARTED)
        return {
            "peer_id": text_of(OWN_ID),
            "sealing_key": {"key": key, "made_at": made},
            "former_sealing_keys": [{"key": key, "retired_at": made, "erased_at": made}],
            "certificate": {"fingerprint": key, "made_at": made},
        }

    async def _identity_export(self, params: dict[str, Any], passed: Passed) -> dict[str, Any]:
        return {"peer_id": text_of(OWN_ID), "size": os.write(passed.fd, b"sealed"), "moved": params["move"]}

    async def _identity_import(self, params: dict[str, Any], passed: Passed) -> dict[str, Any]:
        return {"peer_id": text_of(OWN_ID), "rows": 6}

    async def _keys_rotate(self, params: dict[str, Any]) -> dict[str, Any]:
        shown = await self._keys_show(params)
        del shown["peer_id"]
        return shown | {"push_holders": 3 if params["push"] else 0}

    async def _capabilities_list(self, params: dict[str, Any]) -> dict[str, Any]:
        given = {
            "holder_id": text_of(DESK_ID),
            "kind": "member",
            "name": "de\x1b[1msk",
            "newcomer": True,
            "services": ["http://127.0.0.1:1"],
            "generation": 3,
            "given_until": encode_time(STARTED + 60),
            "taken_until": None,
        }
        held = {"peer_id": text_of(EVIL_ID), "name": "", "services": ["https://push"], "generation": 1, "until": None}
        return {"generation": 3, "given": [given], "held": [held]}

    async def _capabilities_audit(self, params: dict[str, Any]) -> dict[str, Any]:
        entry = {
            "time": encode_time(STARTED),
            "kind": params["kind"] or "taken_back",
            "holder_id": text_of(DESK_ID),
            "name": params["peer"] or "",
            "service": "http://127.0.0.1:1",
            "until": None,
            "detail": "re\x1b[1mplaced",
        }
        everybody = {**entry, "kind": "changed", "holder_id": None, "until": encode_time(STARTED)}
        return {"entries": [entry, everybody][: params["limit"]], "kept": 2}

    async def _push_test(self, params: dict[str, Any]) -> dict[str, Any]:
        test = {
            "service": "http://127.0.0.1:1",
            "newcomers": False,
            "outcome": "ok",
            "tested_at": encode_time(STARTED),
            "accepted": 0.01,
            "delivered": 0.2,
            "detail": "",
        }
        lost = {**test, "newcomers": True, "outcome": "lost", "delivered": None, "detail": "not\x1b[1m delivered"}
        return {"tests": [test, lost]}

    async def _push_renew(self, params: dict[str, Any]) -> dict[str, Any]:
        return {"holders": 1 if params["peer"] else 2, "generation": 4}
