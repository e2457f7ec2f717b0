# SPDX-License-Identifier: BSD-2-Clause
"""Attaching late and attaching twice."""
from __future__ import annotations

from pathlib import Path

import pytest

from lib.client import NATIVE, TEXT, Answer, Ask, Crowd, mixed_asks
from lib.exact import await_attached, capture, check_totals, report
from lib.judge import judge
from lib.models import EXACT, model
from lib.moeprobe import recording, wait_until
from lib.oracle import Oracle
from lib.recording import UNKNOWN, UNKNOWN_64, Picture, read
from lib.server import Server

pytestmark = pytest.mark.root


def test_requests_before_attach_are_unknown(olmoe_server: Server, tmp_path: Path,
                                            capsys: pytest.CaptureFixture[str]) -> None:
    """Requests that run when we attach: seen from there on, and said to be unknown before."""
    running = Crowd(olmoe_server, [Ask(TEXT, f"early {n}", 600, seed=70 + n)
                                   for n in range(2)], 2).start()
    wait_until(lambda: all(slot["n_decoded"] > 20 for slot in slots(olmoe_server)[:2]),
               "the first requests did not start")
    with recording(olmoe_server.pid, tmp_path / "late.moeprobe") as record:
        wait_until(record.attached, "not attached")
        late = Crowd(olmoe_server, [Ask(NATIVE, f"late {n}", 8, seed=80 + n)
                                    for n in range(4)], 2).start().wait()
        early = running.wait()
        olmoe_server.wait_idle()
        assert record.stop().code == 0
    picture = Picture(read(tmp_path / "late.moeprobe"))
    before = [r for r in picture.requests.values() if r.before_attach]
    assert len(before) == 2, [r.begin for r in picture.requests.values()]
    verdict = judge(picture, late, Oracle(olmoe_server.model), optional=early)
    for request in before:
        check_before(request_rows=request.position, begin=request.begin.fields,
                     client=str(request.begin.columns["client_id"]))
        answer = by_slot(early, request.begin.fields["slot"])
        assert request.position[-1] == len(answer.tokens) - 2
        assert request.token == answer.tokens[request.position[0]:-1]
        for record_ in request.coverage:
            fields = record_.fields
            assert fields["before_attach"] == request.position[0]
            assert fields["expected"] == len(answer.tokens) - 1
    report(verdict, "late attach", capsys)


def slots(server: Server) -> list[dict[str, int]]:
    """How far each slot is, busiest first."""
    found = []
    for slot in server.ask("/slots"):
        token = slot.get("next_token") or [{}]
        one = token[0] if isinstance(token, list) else token
        found.append({"id": slot["id"], "n_decoded": one.get("n_decoded", 0)})
    return sorted(found, key=lambda slot: -slot["n_decoded"])


def by_slot(answers: list[Answer], slot: int) -> Answer:
    found = [answer for answer in answers if answer.slot == slot]
    assert len(found) == 1
    return found[0]


def check_before(request_rows: list[int], begin: dict[str, int], client: str) -> None:
    assert client == ""
    assert begin["task"] == begin["prompt"] == begin["cached"] == UNKNOWN
    assert begin["begin_ns"] == UNKNOWN_64 and begin["prompt_known"] == 0
    assert request_rows == list(range(request_rows[0], request_rows[-1] + 1))


def test_two_attaches_are_both_exact(olmoe_server: Server, tmp_path: Path,
                                     capsys: pytest.CaptureFixture[str]) -> None:
    """Two captures of one server at once: both exact, each with its own cost."""
    files = [tmp_path / "one.moeprobe", tmp_path / "two.moeprobe"]
    with recording(olmoe_server.pid, files[0]) as one, \
            recording(olmoe_server.pid, files[1]) as two:
        early = await_attached(olmoe_server, one, two)
        answers = Crowd(olmoe_server, mixed_asks(4), 8).start().wait()
        olmoe_server.wait_idle()
        assert one.stop().code == 0 and two.stop().code == 0
    oracle = Oracle(olmoe_server.model)
    for file in files:
        picture = Picture(read(file))
        verdict = judge(picture, answers, oracle, optional=early)
        check_totals(picture)
        costs = picture.recording.of("cost")
        assert sum(cost.fields["hits"] for cost in costs) > 0
        report(verdict, f"two at once: {file.stem}", capsys)


def test_attach_again(olmoe_server: Server, tmp_path: Path,
                      capsys: pytest.CaptureFixture[str]) -> None:
    """A second capture after the first has gone is as exact."""
    assert model(EXACT["olmoe"]) == olmoe_server.model
    for number in range(2):
        picture, answers, early = capture(olmoe_server, tmp_path / f"{number}.moeprobe",
                                          seed=10 + number)
        report(judge(picture, answers, Oracle(olmoe_server.model), optional=early),
               f"attach number {number + 1}", capsys)
