"""One hierarchy of errors, and the one table of what the control socket answers.

Remote misbehaviour never travels as an exception through the core: it is counted and the message dropped.
``MalformedMessage`` and ``Rejected`` exist so that decoders and verifiers have one way to say no to their caller.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class MeshError(Exception):
    """What every error of this project derives from."""


class LocalMisuse(MeshError):
    """Our own code broke a rule of ours: a bug, never the fault of a peer."""


class MalformedMessage(MeshError):
    """Bytes from outside that are not a message of the protocol. The only error a decoder raises."""


class Rejected(MeshError):
    """A well-formed thing from outside, not to be believed or obeyed; ``reason`` is the counter it goes under."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


class ConfigError(MeshError):
    """The configuration cannot be used. The text names the file, the key and what to write instead."""


class StoreError(MeshError):
    """The state directory cannot be used: in use, of a newer version, unreadable, full."""


class ListenError(MeshError):
    """An address cannot be listened on: taken, not of this machine, or not allowed."""


@dataclass(frozen=True, slots=True)
class _Code:
    number: int  # JSON-RPC error code
    exit_status: int  # what meshctl exits with: 1 refused, 2 usage, 3 unreachable
    message: str  # the first sentence for people; the detail of the case follows it


class Code(Enum):
    """Errors of the control socket. The member's name in lower case is the stable ``symbol`` in ``error.data``."""

    # JSON-RPC 2.0 section 5.1
    PARSE_ERROR = _Code(-32700, 2, "That line is not JSON.")
    INVALID_REQUEST = _Code(-32600, 2, "That is not a JSON-RPC 2.0 request.")
    METHOD_NOT_FOUND = _Code(-32601, 2, "There is no such method.")
    INVALID_PARAMS = _Code(-32602, 2, "A parameter is missing, unknown or of the wrong kind.")
    INTERNAL_ERROR = _Code(-32603, 1, "The daemon failed; its log has the details.")
    # ours
    PERMISSION_DENIED = _Code(-32001, 1, "You may not do that.")
    NO_MESH = _Code(-32002, 1, "This node belongs to no mesh yet; found one or join one first.")
    IN_MESH = _Code(-32003, 1, "This node belongs to a mesh already; leave it first.")
    PEER_UNKNOWN = _Code(-32004, 1, "No member has that name or id.")
    PEER_AMBIGUOUS = _Code(-32005, 1, "More than one member fits; give more of the id.")
    PEER_UNREACHABLE = _Code(-32006, 1, "There is no path to that peer.")
    NOT_ACKNOWLEDGED = _Code(-32007, 1, "The peer has not acknowledged in time.")
    TOO_LARGE = _Code(-32008, 1, "That is too large.")
    BUSY = _Code(-32009, 1, "A limit is reached; try again later.")
    TOKEN_TRUNCATED = _Code(-32010, 1, "The token is cut off; copy all of it.")
    TOKEN_MANGLED = _Code(-32011, 1, "The token is damaged; copy it again.")
    TOKEN_FOREIGN = _Code(-32012, 1, "That is not an introduction token.")
    TOKEN_EXPIRED = _Code(-32013, 1, "The token has expired; ask for a new one.")
    TOKEN_OWN = _Code(-32014, 1, "That token is this node's own.")
    TOKEN_USED_UP = _Code(-32015, 1, "The token has been used; ask for a new one.")
    TOKEN_REVOKED = _Code(-32016, 1, "The token has been revoked; ask for a new one.")
    TOKEN_UNKNOWN = _Code(-32017, 1, "There is no introduction with that id.")
    JOIN_TIMEOUT = _Code(-32018, 1, "The introducer has not answered in time.")
    JOIN_REFUSED = _Code(-32019, 1, "The introducer refused.")
    PUSH_UNAVAILABLE = _Code(-32020, 1, "No push service can be reached.")
    NAME_TAKEN = _Code(-32021, 1, "Another member has that name.")
    NAME_INVALID = _Code(
        -32022, 1, "A name is 1 to 32 of a-z, 0-9, '.', '-', '_', with a letter or digit at both ends."
    )
    NO_ADMIN = _Code(-32023, 1, "No admin of the mesh can be reached.")
    REFUSED = _Code(-32024, 1, "Refused.")
    STORE_FAILED = _Code(-32025, 1, "The state directory cannot be written; nothing was changed.")
    LAGGED = _Code(-32026, 1, "The watcher was too slow and has been closed; start again.")
    LINK_FAILED = _Code(-32027, 1, "No direct connection could be made.")
    CLOCK_WRONG = _Code(-32028, 1, "The clocks of the two machines disagree; set them.")
    STOPPING = _Code(-32029, 1, "The daemon is stopping.")
    PASTE_TRUNCATED = _Code(-32030, 1, "The text is cut off; copy all of it.")
    PASTE_MANGLED = _Code(-32031, 1, "The text is damaged; copy it again.")
    PASTE_FOREIGN = _Code(-32032, 1, "That is not the offer or answer that is wanted here.")
    PASTE_EXPIRED = _Code(-32033, 1, "The text has come too late; begin anew with: meshctl offer")
    PASTE_UNKNOWN = _Code(-32034, 1, "This node has no open offer that fits; begin anew with: meshctl offer")
    PASTE_USED = _Code(-32035, 1, "That text was pasted here before; begin anew with: meshctl offer")
    PASTE_ELSEWHERE = _Code(-32036, 1, "That text is for another node.")
    MESH_KEY_WRONG = _Code(-32037, 1, "That is not the key of this mesh.")
    KEY_REVOKED = _Code(-32038, 1, "This machine's key has been revoked in that mesh; only another key can join it.")
    CALL_FOREIGN = _Code(-32039, 1, "That is nobody's call.")
    CALL_ANONYMOUS = _Code(-32040, 1, "That call is nobody's in particular.")
    CALL_EXPIRED = _Code(-32041, 1, "The call is too old; have the caller make a new one.")
    CALL_USED = _Code(-32042, 1, "That call was pasted here before; have the caller make a new one.")
    CALL_UNANSWERABLE = _Code(-32043, 1, "The caller cannot be answered by push.")

    @property
    def symbol(self) -> str:
        """The stable name, for programs: ``peer_unknown``."""
        return self.name.lower()


class ControlError(MeshError):
    """A request on the control socket that gets an error for an answer."""

    def __init__(self, code: Code, detail: str = "") -> None:
        super().__init__(f"{code.value.message} {detail}".rstrip())
        self.code = code
        self.detail = detail
