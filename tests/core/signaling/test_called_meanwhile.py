"""Somebody whom we have called in vain calls us before our own attempt is over."""

from __future__ import annotations

import pytest
from playbook import Stage

SOON = 15.0  # seconds; our attempt would last for two minutes


@pytest.mark.parametrize("order", [False, True])
def test_who_comes_back_while_it_is_being_called_is_linked_at_once(order: bool) -> None:
    """What was pushed to it while it was off is lost; its own offer crosses ours, and ours stands if our id is less."""
    stage = Stage("anna", "bert")
    stays, comes = sorted(stage.mesh(60.0), key=lambda player: player.id, reverse=order)
    comes.crash()
    calling = False
    while not calling:
        stage.advance(1.0)
        sessions = [session for session in stays.node.signaling.sessions() if session.peer == comes.id]
        calling = any(session.pushes for session in sessions) and not stays.node.calling.is_insistent(comes.id)
    comes.start()
    stage.advance(SOON)
    assert comes.neighbors() == {stays.name}
