# SPDX-License-Identifier: BSD-2-Clause
"""Two servers with different models in one process: each its own context, both exact, although they
number their slots and tasks alike."""
from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lib.client import Crowd, mixed_asks
from lib.exact import await_attached, check_totals, part, report
from lib.judge import judge
from lib.models import EXACT, model
from lib.moeprobe import moeprobe, recording
from lib.oracle import Oracle
from lib.recording import Picture, read
from lib.server import Options, running, second

pytestmark = pytest.mark.root


def test_two_models_in_one_process(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ("olmoe", "qwen3moe")
    paths = [model(EXACT[name]) for name in names]
    options = replace(Options(), second=str(paths[1]))
    file = tmp_path / "r.moeprobe"
    with running(paths[0], tmp_path / "server.log", options) as one:
        servers = (one, second(one))
        with recording(one.pid, file) as record:
            early = [await_attached(server, record) for server in servers]
            crowds = [Crowd(server, mixed_asks(5 + number), 4).start()
                      for number, server in enumerate(servers)]
            answers = [crowd.wait() for crowd in crowds]
            for server in servers:
                server.wait_idle()
            assert record.stop().code == 0
        listed = moeprobe("attach")
        assert "Servers found" in listed.out and f"  {one.pid} " in listed.out, listed.out
    whole = read(file)
    assert whole.complete
    check_totals(Picture(whole))
    contexts = {str(record.columns["architecture"]): record.fields["context"]
                for record in whole.of("model")}
    assert sorted(contexts) == sorted(names)
    for number, name in enumerate(names):
        verdict = judge(Picture(part(whole, contexts[name])), answers[number],
                        Oracle(paths[number]), optional=early[number])
        report(verdict, f"{name}, one of two servers", capsys)
        assert verdict.decisions > 5000
