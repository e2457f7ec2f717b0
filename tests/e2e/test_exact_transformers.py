# SPDX-License-Identifier: BSD-2-Clause
"""Every routing decision of real PyTorch servers under real load, against a forward in another
process; where that cannot be the same to the bit, against what the server's own modules saw."""
from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from lib.abilities import CONTINUOUS_SERVE, GENERATE, LIBTORCH, SERVE
from lib.client import TEXT, Answer
from lib.exact import await_attached, capture_idle, check_totals, finished, report
from lib.judge import Truth, Verdict
from lib.moeprobe import recording
from lib.oracle import Layer
from lib.recording import RAW, Picture, Request
from lib.server import Server
from lib.shown import Shows
from lib.torch_client import (SHARED, Batch, TorchAsk, batches, complete_cancelled, crowd, perform,
                              perform_batch, perform_batches, perform_plain, torch_asks)
from lib.torch_judge import judge_torch
from lib.torch_models import EXACT, TIES, torch_model
from lib.torch_oracle import torch_oracle
from lib.torch_server import CONTINUOUS, PAGE, generating, plain_torch, serving
from lib.torch_tokens import encode
from lib.torch_truth import ChainTruth, chain_of_answer, chains_of_batches

# Released, or what its server never says: by time, by the end of the capture.
UNTOLD = (0, 1, 4)

pytestmark = [pytest.mark.root, pytest.mark.transformers]


def poke_serve(server: Server, number: int) -> Answer:
    return perform(server, TorchAsk(TEXT, f"poke {number}", 2, request_id=f"poke-{number}"))


def poke_generate(server: Server, number: int) -> Answer:
    return perform_batch(server, Batch((tuple(encode(f"poke {number}")),), 2))[0]


def check(picture: Picture, verdict: Verdict, name: str, decisions: int,
          capsys: pytest.CaptureFixture[str]) -> None:
    check_totals(picture)
    assert picture.recording.one("process").columns["engine"] == "PyTorch"
    assert verdict.decisions > decisions
    report(verdict, name, capsys)


@pytest.mark.parametrize("family", ["olmoe", "deepseek_v3"])
def test_serve(family: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
               shows: Shows) -> None:
    """transformers serve as it comes, attached to before it computed anything, so its very first
    request is complete too: one request after the other, eight clients."""
    model = torch_model(EXACT[family])
    with torch_oracle(model, tmp_path / "reference.log") as oracle:
        with serving(model, tmp_path / "server.log") as server:
            picture, answers = capture_idle(
                server, tmp_path / "r.moeprobe",
                lambda: [poke_serve(server, 0), *crowd(server, torch_asks(1)).start().wait()])
        assert len(answers) == 24
        verdict = judge_torch(picture, answers, oracle)
    check(picture, verdict, f"transformers serve, {family}", 8000, capsys)
    assert verdict.unfinished == 3
    shows(SERVE, picture, answers)


def test_serve_continuous(tmp_path: Path, capsys: pytest.CaptureFixture[str],
                          shows: Shows) -> None:
    """Continuous batching: rows of eight clients packed, pages of shared prefixes, cancellations,
    the sampler's own top-k."""
    model = torch_model(EXACT["olmoe"])
    with torch_oracle(model, tmp_path / "reference.log") as oracle:
        with serving(model, tmp_path / "server.log", *CONTINUOUS) as server:
            perform(server, TorchAsk(TEXT, "first", 2, request_id="first", top_k=5))
            picture, answers = capture_idle(
                server, tmp_path / "r.moeprobe",
                lambda: [poke_serve(server, 0), *crowd(server, torch_asks(2)).start().wait()])
        verdict = judge_torch(picture, answers, oracle, page=PAGE)
    check(picture, verdict, "transformers serve, continuous batching", 4000, capsys)
    assert verdict.unfinished == 3
    assert any(request.begin.fields["cached"] for request in picture.requests.values())
    assert largest_share(picture) >= 2
    shows(CONTINUOUS_SERVE, picture, answers)


def largest_share(picture: Picture) -> int:
    """The most requests that one step computed for."""
    return max(len(set(step.columns["request"].tolist())) for step in picture.recording.of("step"))


@pytest.mark.parametrize("family", list(EXACT))
def test_generate(family: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
                  shows: Shows) -> None:
    """An operator's own server around generate(), from its first request on: batches padded on the
    left, sampling, a batch that is cancelled, a thread of its own for each request."""
    model = torch_model(EXACT[family])
    with torch_oracle(model, tmp_path / "reference.log") as oracle:
        with generating(model, tmp_path / "server.log") as server:
            picture, answers = capture_idle(
                server, tmp_path / "r.moeprobe",
                lambda: [poke_generate(server, 0), *perform_batches(server, batches(3))])
            complete_cancelled(server, answers)
        verdict = judge_torch(picture, answers, oracle, endings=UNTOLD)
    check(picture, verdict, f"generate(), {family}", 2000, capsys)
    shows(GENERATE, picture, answers)


def test_generate_with_equal_scores(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """bfloat16, and experts whose scores are always equal: the choice is torch's, to the bit. What
    another process computes would differ, so the server's own modules are the truth."""
    model = torch_model(TIES)
    with generating(model, tmp_path / "server.log") as server:
        picture, answers = capture_idle(
            server, tmp_path / "r.moeprobe",
            lambda: [poke_generate(server, 0), *perform_batches(server, batches(4))])
        complete_cancelled(server, answers)
        truth = ChainTruth(chains_of_batches(server.truth()), TIES.layers)
    verdict = judge_torch(picture, answers, truth, endings=UNTOLD)
    check(picture, verdict, "generate(), bfloat16 with equal scores", 2000, capsys)


def test_plain_torch(tmp_path: Path, capsys: pytest.CaptureFixture[str],
                     shows: Shows) -> None:
    """A program that uses torch alone: no config, no tokenizer, no transformers."""
    source, told = random.Random(5), []

    def ask(server: Server, tokens: list[int], generate: int) -> Answer:
        answer, all_of_it = perform_plain(server, tokens, generate)
        told.append(all_of_it)
        return answer

    with plain_torch(tmp_path / "server.log") as server:
        picture, answers = capture_idle(
            server, tmp_path / "r.moeprobe",
            lambda: [ask(server, [source.randrange(320) for _ in range(length)], 6)
                     for length in (3, 40, 200)])
    truth = ChainTruth(map(chain_of_answer, told), 3)
    assert all(route.flags & RAW for route in picture.recording.of("route"))
    verdict = judge_torch(picture, answers, truth, endings=UNTOLD, raw=True)
    check(picture, verdict, "plain torch", 500, capsys)
    shows(LIBTORCH, picture, answers)


def check_late(request: Request, answers: list[Answer], truth: Truth) -> None:
    """What was seen of a request that began before the attach is right."""
    for answer in answers:
        known = dict(enumerate(answer.tokens))
        if all(known.get(position, token) == token
               for position, token in zip(request.position, request.token, strict=True)):
            break
    else:
        raise AssertionError("a late request has nobody's tokens")
    layers, _ = truth.forward(answer.tokens)
    for number, entries in request.routes.items():
        layer: Layer = layers[number]
        for index, (ids, weights) in entries.items():
            position = request.position[index]
            if position < len(answer.tokens):
                assert list(ids) == list(layer.ids[position])
                assert np.abs(weights - layer.weights[position]).max() < 1e-5


@pytest.mark.parametrize("options", [(), CONTINUOUS], ids=["sequential", "continuous"])
def test_late_attach(options: tuple[str, ...], tmp_path: Path,
                     capsys: pytest.CaptureFixture[str]) -> None:
    """Attached in the middle of requests: they are said to be so, later ones are complete."""
    model = torch_model(EXACT["olmoe"])
    long = [TorchAsk(TEXT, f"{SHARED}long {number}", 800, request_id=f"long-{number}")
            for number in range(2)]
    with torch_oracle(model, tmp_path / "reference.log") as oracle:
        with serving(model, tmp_path / "server.log", *options) as server:
            poke_serve(server, 0)
            under_way = crowd(server, long).start()
            with recording(server.pid, tmp_path / "r.moeprobe") as record:
                await_attached(server, record, poke=None)
                answers = crowd(server, torch_asks(6, count=6, cancelled=1)).start().wait()
                early = under_way.wait()
                server.wait_idle()
                picture = finished(record.stop(), tmp_path / "r.moeprobe")
        verdict = judge_torch(picture, answers, oracle, page=PAGE if options else 0, optional=early)
        late = [request for request in picture.requests.values() if request.before_attach]
        assert late
        for request in late:
            check_late(request, early, oracle)
    check(picture, verdict, f"late attach {' '.join(options[:1])}", 1000, capsys)
