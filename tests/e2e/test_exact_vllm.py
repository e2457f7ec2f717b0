# SPDX-License-Identifier: BSD-2-Clause
"""Every routing decision of a real vLLM under load, against transformers in another process."""
from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from lib.abilities import VLLM
from lib.client import Answer
from lib.exact import capture_idle, capture_work, check_totals, report
from lib.moeprobe import moeprobe, recording, wait_until
from lib.recording import UNKNOWN_64, Picture
from lib.shown import Shows
from lib.torch_models import EXACT, torch_model
from lib.torch_oracle import torch_oracle
from lib.vllm_client import VllmAsk, crowd, long_asks, vllm_asks
from lib.vllm_judge import poke, verdict_of
from lib.vllm_server import BLOCK, Setting, other_names, title, vllm_serving
from models.make_torch_model import TOP_K

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


def check_sampling(picture: Picture, answers: list[Answer]) -> None:
    """What each client asked for, or the model's folder proposes to who does not say, is what its
    request is said to have asked for."""
    by_id = {request.client_id: request.begin.fields for request in picture.requests.values()}
    for answer in answers:
        ask, begin = answer.ask, by_id[answer.client_id or ""]
        assert isinstance(ask, VllmAsk)
        top_k = 0 if ask.greedy else ask.top_k or TOP_K
        assert (begin["temperature"], begin["top_p"], begin["top_k"], begin["max_tokens"]) == (
            0 if ask.greedy else 1, 1, top_k, ask.generate), ask


@pytest.mark.parametrize("family", ["olmoe", "qwen3_moe", "mixtral"])
def test_exact(family: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
               shows: Shows) -> None:
    """Eight clients: shared prefixes from the cache, prompts in pieces, cancellations, sampling, and
    requests that only their ids and what is sampled tell apart; then so many long ones that
    requests are preempted."""
    model = torch_model(EXACT[family])
    with vllm_serving(model, tmp_path / "server.log", TIGHT) as server:
        engine = VLLM[server.library()]
        picture, answers = capture_idle(
            server, tmp_path / "r.moeprobe",
            lambda: [poke(server, 0), *crowd(server, vllm_asks(2)).start().wait()])
        long_picture, long_answers = capture_idle(
            server, tmp_path / "long.moeprobe",
            lambda: crowd(server, long_asks(3)).start().wait())
        assert server.still_serves()
    verdict = verdict_of(picture, answers, [], model, tmp_path)
    check_totals(picture)
    check_sampling(picture, answers)
    assert picture.recording.one("process").columns["engine"] == "vLLM"
    assert verdict.unfinished == 3 and verdict.decisions > 5000
    assert any(request.begin.fields["cached"] for request in picture.requests.values())
    report(verdict, f"vLLM, {family}", capsys)
    shows(engine, picture, answers)
    verdict = verdict_of(long_picture, long_answers, [], model, tmp_path)
    assert any(len(set(request.position)) < request.rows
               for request in long_picture.requests.values()), "nothing was preempted"
    report(verdict, f"vLLM, {family}, preempted", capsys)


def test_tensor_parallel(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two workers compute the same routing: one is read, each decision is there once."""
    model = torch_model(EXACT["olmoe"])
    with vllm_serving(model, tmp_path / "server.log", Setting(tensor=2)) as server:
        assert len(server.workers()) == 2
        picture, answers, early = capture_work(
            server, tmp_path / "r.moeprobe",
            lambda: crowd(server, vllm_asks(4)).start().wait(), poke)
    verdict = verdict_of(picture, answers, early, model, tmp_path)
    report(verdict, "vLLM, two tensor-parallel workers", capsys)


def test_parts_are_told_apart(tmp_path: Path) -> None:
    """A worker can be captured, and what it does not know is said; an engine core is refused; a
    list has the API server alone."""
    with vllm_serving(torch_model(EXACT["olmoe"]), tmp_path / "server.log") as server:
        worker, = server.workers().values()
        core = next(pid for pid in server.family() if title(pid) == "VLLM::EngineCore")
        remedy = f"attach to {server.pid}, its API server"
        done = moeprobe("attach", core)
        assert done.code == 5 and f"process {core}: it is the engine core" in done.err, done.err
        assert remedy in done.err
        with recording(worker, tmp_path / "r.moeprobe") as capture:
            wait_until(capture.attached, "no data", poke=lambda: server.still_serves())
            assert capture.stop().code == 0
        assert f"process {worker} is a worker of a vLLM" in capture.said and remedy in capture.said
        assert remedy in moeprobe("doctor", worker).out
        assert remedy not in moeprobe("doctor", server.pid).out
        found = moeprobe("attach").out
        assert f"  {server.pid} " in found, found
        assert f" {worker}" not in found and f" {core}" not in found, found


def parts_of(picture: Picture) -> dict[int, list[int]]:
    """The contexts of a model that is shared out, and the layers of each."""
    parts = {record.fields["context"]: [int(layer) for layer in record.columns["layer_ids"]]
             for record in picture.recording.of("model")}
    keys = {record.fields["context"]: record.fields["model_key"]
            for record in picture.recording.of("context")}
    assert set(keys) == set(parts) and len(set(keys.values())) == 1 and 0 not in keys.values()
    return parts


@pytest.mark.parametrize("stages", [2, 4])
def test_pipeline_parallel(stages: int, tmp_path: Path,
                           capsys: pytest.CaptureFixture[str]) -> None:
    """Workers have some of the four layers each, or one: all layers of each token are there, the
    token is counted once, and the steps of all say which belong together."""
    model = torch_model(EXACT["olmoe"])
    setting = Setting(context=640, blocks=24, chunk=64, pipeline=stages)
    with vllm_serving(model, tmp_path / "server.log", setting) as server:
        assert sorted(server.workers()) == [f"VLLM::Worker_PP{stage}" for stage in range(stages)]
        picture, answers, early = capture_work(
            server, tmp_path / "r.moeprobe",
            lambda: crowd(server, vllm_asks(5)).start().wait(), poke)
        assert server.still_serves()
    parts = parts_of(picture)
    assert [len(layers) for layers in parts.values()] == [4 // stages] * stages
    assert picture.layers == [0, 1, 2, 3]
    batches: dict[int, list[int]] = {}
    for step in picture.recording.of("step"):
        batches.setdefault(step.fields["batch"], []).append(step.fields["context"])
    assert UNKNOWN_64 not in batches and len(batches) > 50
    whole = [sorted(contexts) == sorted(parts) for contexts in batches.values()]
    # While layouts are found out, one stage may see a step that another one does not.
    assert all(whole[whole.index(True):]) and whole.index(True) < 5
    verdict = verdict_of(picture, answers, early, model, tmp_path)
    check_totals(picture)
    check_sampling(picture, answers)
    report(verdict, f"vLLM, {stages} pipeline stages", capsys)


@pytest.mark.parametrize("family", ["olmoe", "mixtral"])
def test_by_topk(family: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where the function that takes the router's choice has another name, choices and weights are
    made again from the router's scores, and are the same."""
    model = torch_model(EXACT[family])
    with TemporaryDirectory() as package, vllm_serving(
            model, tmp_path / "server.log", TIGHT, other_names(Path(package))) as server:
        picture, answers, early = capture_work(
            server, tmp_path / "r.moeprobe",
            lambda: crowd(server, vllm_asks(6)).start().wait(), poke)
        doctor = moeprobe("doctor", server.pid)
        assert server.still_serves()
    assert "router by top-k" in doctor.out and "topk_out_cpu" in doctor.out
    verdict = verdict_of(picture, answers, early, model, tmp_path)
    check_totals(picture)
    report(verdict, f"vLLM, {family}, by top-k", capsys)
