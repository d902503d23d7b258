"""A token is handed out once it is on the disk."""

from __future__ import annotations

from dataclasses import replace

import pytest
from playbook import Stage

from meshd.config import Config


@pytest.mark.parametrize("subscription", ["own", "shared"])
def test_no_token_before_its_disk(subscription: str) -> None:
    config = Config()
    stage = Stage("anna", config=replace(config, push=replace(config.push, subscription=subscription)))
    stage.found("anna")
    anna = stage["anna"]
    anna.ask("introductions.mint")  # where it is shared, the subscription is there from now on
    stage.advance(1.0)
    anna.disk_mode = "slow"
    request = anna.request("introductions.mint")
    assert request not in anna.answers
    anna.let_disk_go()
    stage.advance(1.0)
    answer = anna.answers[request]
    assert isinstance(answer, dict)
    assert answer["introduction_id"] in anna.disk["introductions"]
