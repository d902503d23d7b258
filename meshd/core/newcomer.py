"""What a newcomer is told, verified: it knows no more of the mesh than its token says."""

from __future__ import annotations

from meshd.core.context import Context
from meshd.crypto.admission import Chain, decode_chain, verify_chain
from meshd.errors import Rejected
from meshd.ids import MeshId, PeerId
from meshd.wire.joining import JoinAccepted, JoinAnswered
from meshd.wire.record import Record, decode_record, verify_record


def check_accepted(accepted: JoinAccepted, own: PeerId, mesh: MeshId, ctx: Context) -> tuple[Chain, Record]:
    """What an introducer has sent a joiner, verified: its chain, the introducer's record.

    Raises MalformedMessage and Rejected.
    """
    chain = decode_chain(accepted.chain)
    if chain[-1].subject != own:
        raise Rejected("not_our_admission")
    verify_chain(chain, mesh, ctx.now.unix, ctx.suite.verify)
    record = decode_record(accepted.record)
    verify_record(record, ctx.suite, mesh, ctx.now.unix)
    return chain, record


def check_answered(answered: JoinAnswered, sender: PeerId, own: Chain, mesh: MeshId, ctx: Context) -> Chain:
    """Another member's chain, verified; ``own`` is the newcomer's, of which it may share the beginning.

    Raises MalformedMessage and Rejected.
    """
    chain = decode_chain((*(certificate.encoded for certificate in own[: answered.shared]), *answered.chain))
    if chain[-1].subject != sender:
        raise Rejected("not_its_admission")
    verify_chain(chain, mesh, ctx.now.unix, ctx.suite.verify)
    return chain
