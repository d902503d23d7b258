"""What a newcomer is told, verified: it knows no more of the mesh than its token says."""

from __future__ import annotations

from meshd.core.context import Context
from meshd.crypto.admission import Chain, decode_chain, verify_chain
from meshd.errors import Code, ControlError, MalformedMessage, Rejected
from meshd.ids import MeshId, PeerId, is_name
from meshd.wire.foreign_introduction import decode_foreign_introduction
from meshd.wire.introduction import Introduction, decode_token
from meshd.wire.joining import JoinAccepted, JoinAnswered
from meshd.wire.record import Record, decode_record, verify_record


def read_token(text: str, now: float) -> Introduction:
    """What was pasted, at the Unix time ``now``. Raises ControlError: what is wrong with it, or what it is instead."""
    try:
        return decode_token(text)
    except ControlError as error:
        if error.code is not Code.TOKEN_FOREIGN:
            raise
        try:
            foreign = decode_foreign_introduction(text)
        except MalformedMessage:
            raise error from None
    days = int(now - foreign.expires) // 86_400
    expired = f"; it expired {days:,} days ago" if days > 0 else "; it has expired" if now >= foreign.expires else ""
    raise ControlError(
        Code.TOKEN_FOREIGN,
        f"It is an introduction to a browser of web3.0-test{expired}. That is another system, which no meshd can join. "
        "A member of a mesh makes a token with: meshctl introduce",
    )


def check_token(introduction: Introduction, name: str, ctx: Context) -> None:
    """Whether it is worth while to knock with it, under that name. Raises ControlError."""
    if introduction.introducer == ctx.own_id:
        raise ControlError(Code.TOKEN_OWN, "Paste it on the machine that is to join.")
    if introduction.expires <= ctx.now.unix:
        raise ControlError(Code.TOKEN_EXPIRED, "If it is fresh, this machine's clock is wrong.")
    if not is_name(name):
        raise ControlError(Code.NAME_INVALID)


def refuse_member(token: str, mesh: MeshId, own: PeerId, now: float) -> None:
    """A token pasted where there is a mesh already. Raises ControlError: what fits best."""
    introduction = read_token(token, now)
    if introduction.introducer == own:
        raise ControlError(Code.TOKEN_OWN, "Paste it on the machine that is to join.")
    if introduction.mesh == mesh:
        raise ControlError(Code.IN_MESH, "The token is of this very mesh: nothing is to be done.")
    raise ControlError(Code.IN_MESH, "The token is of another mesh.")


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
