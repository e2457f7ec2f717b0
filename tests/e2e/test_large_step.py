# SPDX-License-Identifier: BSD-2-Clause
"""Prompts computed in large batches by a model of many layers: what one step takes in the stream is
more than the queue to its reader holds."""
from __future__ import annotations

from pathlib import Path

import pytest

from lib.exact import await_attached, check_totals, largest_step
from lib.models import model
from lib.moeprobe import recording
from lib.recording import Picture, read
from lib.server import Options, running
from models.make_model import Shape

pytestmark = pytest.mark.root

LAYERS, TOKENS, K = 64, 4000, 8
DEEP = Shape("olmoe", layers=LAYERS, experts=16, k=K, width=64, heads=2, kv_heads=2, ffn=32)
OPTIONS = Options(slots=1, context=8192, batch=4096, ubatch=4096)


def test_a_step_larger_than_the_queue(tmp_path: Path) -> None:
    file = tmp_path / "r.moeprobe"
    with running(model(DEEP), tmp_path / "server.log", OPTIONS) as server:
        with recording(server.pid, file, "--ring", str(16 << 20)) as record:
            await_attached(server, record)
            answer = server.ask("/completion", {
                "prompt": [1 + number % 250 for number in range(TOKENS)], "n_predict": 2})
            server.wait_idle()
            assert record.stop().code == 0, record.said
    assert answer["tokens_predicted"] == 2
    picture = Picture(read(file))
    check_totals(picture)
    rows = largest_step(picture)
    assert rows == TOKENS
    assert rows * LAYERS * K * 5 > 8 << 20, "no larger than the queue"
    request = max(picture.requests.values(), key=lambda one: one.rows)
    assert request.rows == TOKENS + 1
    assert picture.recording.lost == 0
    for record_of in request.coverage:
        fields = record_of.fields
        assert fields["seen"] + fields["not_computed"] == fields["expected"] == TOKENS + 1
    assert len(request.coverage) == LAYERS
