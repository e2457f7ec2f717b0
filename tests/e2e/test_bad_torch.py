# SPDX-License-Identifier: BSD-2-Clause
"""Processes with PyTorch that cannot be read, or only in part: refused by name, or what is missing
is said; never a wrong number, and the process goes on. Most have a library that only looks like
PyTorch's (tests/tools/fake_torch.c), so they need no environment."""
from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from lib.client import TEXT, Answer
from lib.exact import await_attached, capture_idle, capture_work, check_totals, is_placed
from lib.fake_torch import LAYERS, FakeTorch, chosen, fake_helper, fake_torch, fake_vllm
from lib.moeprobe import (Finished, children_of, kernel_objects, moeprobe, recording,
                          wait_until)
from lib.recording import RAW, STOPS, Picture, Record, Recording, read
from lib.torch_client import TorchAsk, crowd, perform, perform_plain
from lib.torch_judge import judge_torch
from lib.torch_models import DENSE, EXACT, torch_model
from lib.torch_server import PlainServer, plain_torch, serving
from lib.torch_truth import ChainTruth, chain_of_answer

pytestmark = pytest.mark.root

NO_STEP = 6  # cause of a loss: results whose rows were not seen
LAYOUT = 9   # results that were not read: where sizes are was not known
TARGET_GONE = 3
UNTOLD = (0, 1, 4)  # endings that no server says
SECONDS = 1.5  # that a fake computes where nothing can be awaited
PROMPT, TEXT_TOKENS = [11, 12, 13, 14, 15], [21, 22, 23, 24]


def refused(done: Finished, *words: str) -> None:
    """Exit code 5, one line what and why with @words, one what to do."""
    lines = [line for line in done.error_lines() if line.startswith(("moeprobe", "  try: "))]
    assert done.code == 5, done
    assert len(lines) == 2 and lines[0].startswith("moeprobe") and lines[1].startswith("  try: "), \
        done.err
    for word in words:
        assert word in lines[0], f"{word!r} is not in: {lines[0]}"


# --- what is refused --------------------------------------------------------------------------

@pytest.mark.transformers
def test_dense_model(tmp_path: Path) -> None:
    model = torch_model(DENSE)
    with serving(model, tmp_path / "server.log") as server:
        done = moeprobe("record", server.pid, "-o", tmp_path / "r", "-d", "5")
        refused(done, str(model), "dense", "router")
        assert server.still_serves()


@pytest.mark.parametrize("stripped", [True, False])
def test_names_are_gone(stripped: bool, tmp_path: Path) -> None:
    """A PyTorch without the names: as from a static build that was stripped."""
    with fake_torch(tmp_path, "HIDDEN" if stripped else "RENAMED", stripped=stripped) as fake:
        done = moeprobe("record", fake.pid, "-o", tmp_path / "r", "-d", "5")
        refused(done, "structured_topk_out_cpu", "libtorch_cpu.so", "stripped")
        fake.step(PROMPT)


@pytest.mark.parametrize(("define", "words"), [
    ("HEAD=88", ("layout check failed",)),
    ("HEAD=24", ("layout check failed",)),
    ("DEVICE=1", ("GPU",)),
])
def test_tensors_that_cannot_be_read(define: str, words: tuple[str, ...], tmp_path: Path) -> None:
    """Sizes where no release has them; sizes of tensors that lie elsewhere."""
    file = tmp_path / "r.moeprobe"
    with fake_torch(tmp_path, define) as fake, recording(fake.pid, file) as capture:
        wait_until(lambda: capture.process.poll() is not None, "it goes on",
                   poke=lambda: fake.generate(PROMPT, TEXT_TOKENS))
        refused(capture.wait(), *words)
        fake.step(PROMPT)
    recorded = read(file)
    assert STOPS[recorded.one("end").fields["stop"]] == "failed"
    assert not recorded.of("step") and not recorded.of("route")


def listed(pid: int) -> tuple[bool, bool]:
    """Whether a bare attach lists the process, and whether with those that cannot be read."""
    servers, _, apart = moeprobe("attach").out.partition("cannot be attached to\n")
    return f"  {pid} " in servers, f"  {pid}, " in apart


def test_engine_core_of_a_vllm(tmp_path: Path) -> None:
    """It has PyTorch and nothing that chooses: no server on PyTorch, and whose it is is said."""
    with fake_vllm(tmp_path, "VLLM::EngineCore") as fake:
        _, core = children_of(fake.pid)
        for command in (("record", core, "-o", tmp_path / "r"), ("attach", core), ("doctor", core)):
            done = moeprobe(*command)
            refused(done, f"process {core}: it is the engine core of a vLLM")
            assert f"  try: attach to {fake.pid}, its API server" in done.err
        assert listed(core) == (False, False)


def test_vllm_that_still_starts(tmp_path: Path) -> None:
    with fake_vllm(tmp_path, "VLLM::Worker_TP0") as fake:
        refused(moeprobe("record", fake.pid, "-o", tmp_path / "r"),
                f"process {fake.pid}: vLLM is still starting: no worker yet")
        assert listed(fake.pid) == (False, True)
        _, worker = children_of(fake.pid)
        refused(moeprobe("attach", worker), f"process {worker}: it is a worker of a vLLM")


@pytest.mark.parametrize(("line", "shown"), [
    (("-c", "from multiprocessing.resource_tracker import main;main(6)"), False),
    (("/env/torch/_inductor/compile_worker/__main__.py", "--kind=subprocess"), False),
    (("-c", "from multiprocessing.spawn import spawn_main"), True),
], ids=["tracker", "compiler", "child"])
def test_helpers_of_torch(line: tuple[str, ...], shown: bool, tmp_path: Path) -> None:
    """They map what a server does: they are not listed as one."""
    with fake_helper(tmp_path, *line) as fake:
        assert listed(fake.pid) == (shown, False)


# --- what is read in part ---------------------------------------------------------------------

def computed(tmp_path: Path, *defines: str, embeds: bool = True) -> Recording:
    """What is recorded of a fake that computes for a while."""
    file = tmp_path / "r.moeprobe"
    with fake_torch(tmp_path, *defines) as fake, recording(fake.pid, file) as capture:
        wait_until(lambda: is_placed(capture), "no probes")
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            fake.step(PROMPT, embeds=embeds)
            time.sleep(0.002)
        done = capture.stop()
    assert "idle" not in done.err
    recorded = read(file)
    assert done.code == (6 if recorded.of("loss") else 0), done.err
    assert STOPS[recorded.one("end").fields["stop"]] == "asked"
    return recorded


@pytest.mark.parametrize(("defines", "embeds"), [((), False), (("VOCABULARY=127",), True)],
                         ids=["compiled-away", "too-small"])
def test_embedding_that_is_not_seen(defines: tuple[str, ...], embeds: bool,
                                    tmp_path: Path) -> None:
    """Nothing says whose the results are: no step, and all are said to be missing, also by the
    exit code."""
    recorded = computed(tmp_path, *defines, embeds=embeds)
    assert not recorded.of("step", "route", "request_begin")
    causes = {record.fields["cause"]: record.fields for record in recorded.of("loss")}
    assert list(causes) == [NO_STEP], causes
    lost = sum(record.fields["count"] for record in recorded.of("loss"))
    assert lost > LAYERS
    assert sum(record.fields["decisions"] for record in recorded.of("loss")) == lost * len(PROMPT)
    text = moeprobe("report", tmp_path / "r.moeprobe").out
    assert "whose step description was lost" in text


def test_other_layout_than_presumed(tmp_path: Path) -> None:
    """What was computed before the layout was known is lost by that cause, never said to have been
    before the attach; what comes then is right."""
    file = tmp_path / "r.moeprobe"
    with fake_torch(tmp_path, "HEAD=64") as fake, recording(fake.pid, file) as capture:
        wait_until(lambda: is_placed(capture), "no probes")
        fake.generate(PROMPT, TEXT_TOKENS)
        wait_until(capture.attached, "no data", poke=lambda: fake.generate([1, 2, 3], [4, 5]))
        fake.generate(PROMPT, TEXT_TOKENS)
        done = capture.stop()
    assert done.code == 0, done.err
    recorded = read(file)
    lost: dict[int, int] = {}
    for record in recorded.of("loss"):
        cause = record.fields["cause"]
        lost[cause] = lost.get(cause, 0) + record.fields["count"]
    assert set(lost) <= {LAYOUT, NO_STEP} and lost[LAYOUT] >= LAYERS, lost
    check_routes(recorded)
    picture = Picture(recorded)
    assert not any(request.before_attach for request in picture.requests.values())
    assert [request.tokens for request in picture.requests.values()][-1] == (
        PROMPT + TEXT_TOKENS[:-1])
    assert "router results not read" in moeprobe("report", file).out


def test_scores_of_another_shape(tmp_path: Path) -> None:
    """Three dimensions: no router, and nothing is made up."""
    recorded = computed(tmp_path, "RANK=3")
    assert not recorded.of("route") and not recorded.lost
    assert not recorded.of("invalid")


# --- what is sent -----------------------------------------------------------------------------

Said = list[tuple[int, bytes]]  # connection, piece


def http(body: bytes, *headers: bytes, status: bytes = b"200 OK") -> bytes:
    return b"\r\n".join([b"HTTP/1.1 " + status, *headers, b"content-type: application/json",
                         b"content-length: %d" % len(body), b"", body])


def answer(name: str, prompt: int = len(PROMPT), text: int = len(TEXT_TOKENS)) -> bytes:
    return json.dumps({"id": name, "object": "text_completion", "choices": [
        {"index": 0, "text": "x", "finish_reason": "stop"}],
        "usage": {"prompt_tokens": prompt, "completion_tokens": text}}).encode()


NOT_HTTP: Said = [
    (0, bytes(range(256)) * 8), (1, b"\0" * 5000), (2, b"SSH-2.0-whatever\r\n"),
    (3, b"\x16\x03\x03\x02\x00" + os.urandom(512)), (4, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"),
    (5, b"+OK\r\n$5\r\nhello\r\n"), (6, b"\xff" * 70000), (7, b"H"), (7, b"T"), (8, b"{}"),
]
HOSTILE: Said = [
    (0, b"HTTP/1.1 200 OK\r\n" + b"x" * 60000), (0, b"y" * 60000),            # a head without end
    (1, b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n" + answer("minus")),
    (2, b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999999\r\n\r\n{"),
    (3, b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffffffff\r\n{}"),
    (4, b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n-5\r\n{}\r\n0\r\n\r\n"),
    (5, http(b"[" * 50000)), (6, http(b'{"id":"' + b"\\u0000" * 9000 + b'"}')),
    (7, http(b'{"id":"\xff\xfe\x80","usage":{"completion_tokens":-4}}')),
    (8, http(b'{"usage":{"prompt_tokens":1e999,"completion_tokens":99999999999999999999}}')),
    (9, http(answer("other", prompt=4, text=3))),       # right, but nobody's
    (10, http(b'{"id":' + b'{"id":' * 3000)),
    (11, b"HTTP/1.1 999999999999 \r\n\r\n"), (11, b"HTTP/9.9 -1 -\r\n\r\n"),
    (12, http(answer("x" * 5000, prompt=4))),
    (13, b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n" + b"data: {" * 20000),
    (14, b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n" + b"\n\n\r\r" * 9000),
]


def steps_of(recorded: Recording) -> list[Record]:
    return recorded.of("step")


def check_routes(recorded: Recording) -> None:
    """Every route is what the fake chose; and each step has all its layers."""
    step = {record.fields["step"]: record for record in steps_of(recorded)}
    layers: dict[int, list[int]] = {number: [] for number in step}
    for route in recorded.of("route"):
        tokens = step[route.fields["step"]].columns["token"].tolist()
        layer = route.fields["layer"]
        assert route.flags & RAW
        assert [sorted(ids) for ids in route.columns["ids"].tolist()] == [
            sorted(chosen(token, layer)) for token in tokens]
        layers[route.fields["step"]].append(layer)
    assert step and all(sorted(some) == list(range(LAYERS)) for some in layers.values())


def with_traffic(tmp_path: Path, said: Said) -> Picture:
    """A sequence, what was @said, and another sequence whose answer is as it should be."""
    file = tmp_path / "r.moeprobe"
    with fake_torch(tmp_path) as fake, recording(fake.pid, file) as capture:
        wait_until(capture.attached, "no data", poke=lambda: fake.generate([1, 2, 3], [4, 5]))
        for number, (connection, piece) in enumerate(said):
            fake.step([31 + number % 200, 2, 3, 4, 5, 6])
            fake.send(piece, connection)
        fake.generate(PROMPT, TEXT_TOKENS)
        fake.send(http(answer("certain")), 100)
        time.sleep(0.2)
        assert capture.process.poll() is None, capture.said
        done = capture.stop()
    assert done.code == 0, done.err
    picture = Picture(read(file))
    check_totals(picture)
    check_routes(picture.recording)
    assert moeprobe("dump", file, "--json").code == 0
    return picture


@pytest.mark.parametrize("said", [NOT_HTTP, HOSTILE], ids=["not-http", "hostile-http"])
def test_what_is_sent_is_no_answer(said: Said, tmp_path: Path) -> None:
    """The capture goes on, nobody gets a name from it, and the one right answer is still found."""
    picture = with_traffic(tmp_path, said)
    named = [request for request in picture.requests.values() if request.client_id]
    assert [request.client_id for request in named] == ["certain"]
    assert named[0].tokens == PROMPT + TEXT_TOKENS[:-1]
    assert not picture.recording.of("invalid")


# --- real ones --------------------------------------------------------------------------------

@pytest.mark.transformers
def test_server_dies_in_a_request(tmp_path: Path) -> None:
    """What came before is kept; what was open says that the target is gone."""
    file = tmp_path / "r.moeprobe"
    ask = TorchAsk(TEXT, "to be killed", 2000, request_id="killed")
    with serving(torch_model(EXACT["olmoe"]), tmp_path / "server.log") as server:
        with recording(server.pid, file) as capture:
            await_attached(server, capture, poke=lambda server, number: perform(
                server, TorchAsk(TEXT, f"poke {number}", 2, request_id=f"poke-{number}")))
            under_way = crowd(server, [ask], 1).start()
            before = file.stat().st_size
            wait_until(lambda: file.stat().st_size > before + 4000, "no data")
            os.kill(server.pid, signal.SIGKILL)
            done = capture.wait(20)
        under_way.stop()
    assert done.code == 0, done.err
    recorded = read(file)
    assert recorded.complete
    assert STOPS[recorded.one("end").fields["stop"]] == "target_exit"
    picture = Picture(recorded)
    check_totals(picture)
    assert all(request.end for request in picture.requests.values())
    gone = [request for request in picture.requests.values()
            if request.end and request.end.fields["ending"] == TARGET_GONE]
    assert len(gone) == 1 and gone[0].rows > 10
    assert gone[0].position == list(range(gone[0].rows))


PROMPTS = [list(range(start, start + 30)) for start in range(0, 240, 20)]


@pytest.mark.transformers
def test_compiled_operator_by_operator(tmp_path: Path) -> None:
    """A compiled model whose operators are still PyTorch's: exact."""
    told: list[dict[str, Any]] = []

    def ask(server: PlainServer, tokens: list[int]) -> Answer:
        answer, all_of_it = perform_plain(server, tokens, 4)
        told.append(all_of_it)
        return answer

    with plain_torch(tmp_path / "server.log", "--compile", "aot_eager") as server:
        picture, answers = capture_idle(
            server, tmp_path / "r.moeprobe", lambda: [ask(server, tokens) for tokens in PROMPTS])
    verdict = judge_torch(picture, answers, ChainTruth(map(chain_of_answer, told), LAYERS),
                          endings=UNTOLD, raw=True)
    assert not verdict.faults and verdict.decisions > 1000


@pytest.mark.transformers
def test_compiled_to_other_code(tmp_path: Path) -> None:
    """Of a model that is fused, embedding and positions too, only the routers' top-k is left: no
    step, and all of it is said to be missing."""
    file = tmp_path / "r.moeprobe"
    with plain_torch(tmp_path / "server.log", "--compile", "inductor") as server:
        for tokens in PROMPTS[:2]:
            perform_plain(server, tokens, 3)  # compiled now: for several rows, and for one
        with recording(server.pid, file) as capture:
            wait_until(lambda: "link" in {kind for kind, _ in kernel_objects(
                children_of(capture.process.pid))}, "no probes")
            for tokens in PROMPTS * 4:
                perform_plain(server, tokens, 4)
            time.sleep(0.2)
            done = capture.stop()
        assert server.still_serves()
    assert done.code == 6 and "router results came, and none could be shown" in done.err, done.err
    assert "idle" not in done.err
    recorded = read(file)
    assert not recorded.of("step", "route", "request_begin")
    assert {record.fields["cause"] for record in recorded.of("loss")} == {NO_STEP}
    assert sum(record.fields["count"] for record in recorded.of("loss")) > 100
