# SPDX-License-Identifier: BSD-2-Clause
"""Names on PyTorch servers that send otherwise than asyncio does: by write() and writev() (uvloop),
through TLS."""
from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lib.exact import await_attached, capture_work, check_totals, finished, report
from lib.moeprobe import recording
from lib.recording import Picture
from lib.torch_client import TorchAsk, crowd, perform, torch_asks
from lib.torch_judge import judge_torch
from lib.torch_models import EXACT, torch_model
from lib.torch_oracle import torch_oracle
from lib.torch_server import UvicornServer, certificate, serving, uvicorn
from lib.client import TEXT, Answer
from lib.server import Server
from lib.torch_tokens import encode

pytestmark = [pytest.mark.root, pytest.mark.transformers]

REQUESTS = 11


def poke_serve(server: Server, number: int) -> Answer:
    return perform(server, TorchAsk(TEXT, f"poke {number}", 2, request_id=f"poke-{number}"))


def test_serve_on_uvloop(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """transformers serve where uvloop is installed: exact as on asyncio."""
    model = torch_model(EXACT["olmoe"])
    with torch_oracle(model, tmp_path / "reference.log") as oracle:
        with serving(model, tmp_path / "server.log", loop="uvloop") as server:
            assert "uvloop" in Path(f"/proc/{server.pid}/maps").read_text()
            picture, answers, early = capture_work(
                server, tmp_path / "r.moeprobe",
                lambda: crowd(server, torch_asks(8, count=12, cancelled=1)).start().wait(),
                poke_serve)
        verdict = judge_torch(picture, answers, oracle, optional=early)
    check_totals(picture)
    report(verdict, "transformers serve on uvloop", capsys)
    named = {request.client_id for request in picture.requests.values()}
    assert {answer.client_id for answer in answers if answer.finished} <= named


def ask(server: UvicornServer, name: str, prompt: list[int], generate: int) -> Answer:
    connection = server.connection()
    try:
        connection.request("POST", "/generate", json.dumps(
            {"id": name, "prompt": prompt, "generate": generate}))
        told = json.loads(connection.getresponse().read())
    finally:
        connection.close()
    return Answer(TorchAsk("/generate", "", generate, request_id=name), prompt,
                  told["generated"], len(told["generated"]), client_id=told["id"])


def check_names(picture: Picture, answers: list[Answer]) -> None:
    """Each request that was answered has its name, and the rows of what was asked under it."""
    requests = {request.client_id: request for request in picture.requests.values()}
    for answer in answers:
        assert answer.client_id in requests, answer.client_id
        assert requests[answer.client_id].tokens == answer.tokens[:-1]


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_own_server(loop: str, tls: bool, tmp_path: Path) -> None:
    """An operator's own server on uvicorn: every answer names its request."""
    pair = certificate(tmp_path) if tls else None
    with uvicorn(torch_model(EXACT["olmoe"]), tmp_path / "server.log", loop, pair) as server:
        with recording(server.pid, tmp_path / "r.moeprobe") as record:
            await_attached(server, record, poke=lambda server, number: ask(
                server, f"poke-{number}", encode(f"poke {number}"), 2))
            with ThreadPoolExecutor(4) as pool:
                answers = list(pool.map(
                    lambda number: ask(server, f"own-{number}", encode(f"{number} is asked"),
                                       3 + number), range(REQUESTS)))
            server.wait_idle()
            picture = finished(record.stop(), tmp_path / "r.moeprobe")
    check_totals(picture)
    check_names(picture, answers)
