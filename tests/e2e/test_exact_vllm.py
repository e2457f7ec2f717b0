# SPDX-License-Identifier: BSD-2-Clause
"""Every routing decision of a real vLLM under real load, against transformers in another process."""
from __future__ import annotations

from pathlib import Path

import pytest

from lib.client import Answer
from lib.torch_models import EXACT, torch_model
from lib.torch_oracle import torch_oracle
from lib.vllm_client import VllmAsk, crowd, vllm_asks
from lib.vllm_server import BLOCK, Setting, vllm_serving

pytestmark = [pytest.mark.full, pytest.mark.root, pytest.mark.vllm]

# Few blocks and small pieces: prompts are computed in pieces, requests are preempted and resumed.
TIGHT = Setting(context=640, blocks=24, chunk=64)


def greedy(answers: list[Answer]) -> list[Answer]:
    return [answer for answer in answers if answer.finished
            and isinstance(answer.ask, VllmAsk) and answer.ask.greedy]


def test_clients_and_reference_agree(tmp_path: Path) -> None:
    """Without a probe: what vLLM says to clients is what the reference computes, so that a
    difference in a recording is the recording's."""
    model = torch_model(EXACT["olmoe"])
    with vllm_serving(model, tmp_path / "server.log", TIGHT) as server:
        assert list(server.workers()) == ["VLLM::Worker"]
        answers = crowd(server, vllm_asks(1)).start().wait()
        server.wait_idle()
        assert server.still_serves()
    assert [answer.error for answer in answers if answer.error] == []
    assert sum(answer.cancelled for answer in answers) == 3
    assert any(answer.cached for answer in answers)
    assert all((answer.cached or 0) % BLOCK == 0 for answer in answers)
    with torch_oracle(model, tmp_path / "reference.log") as oracle:
        assert len(greedy(answers)) >= 3
        for answer in greedy(answers):
            _, logits = oracle.forward(answer.tokens[:-1])
            assert int(logits.argmax()) == answer.tokens[-1], answer.ask
