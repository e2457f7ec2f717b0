# SPDX-License-Identifier: BSD-2-Clause
"""--header: chosen headers of requests become labels of them, each its own, and never another's."""
from __future__ import annotations

import http.client
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lib.client import TEXT, Answer
from lib.exact import await_attached, check_totals, finished
from lib.moeprobe import moeprobe, recording
from lib.recording import Picture
from lib.server import Server
from lib.torch_client import TorchAsk, perform
from lib.torch_models import EXACT, torch_model
from lib.torch_server import serving
from lib.vllm_client import VllmAsk
from lib.vllm_client import perform as perform_vllm
from lib.vllm_server import vllm_serving

pytestmark = [pytest.mark.root, pytest.mark.transformers]

CLIENTS, EACH = 4, 5
LONG = "x" * 300


def poke(server: Server, number: int) -> Answer:
    return perform(server, TorchAsk(TEXT, f"poke {number}", 2, request_id=f"poke-{number}"))


def asks_of(client: int) -> list[TorchAsk]:
    """Every third without the header; numbers of tokens that no other request has."""
    made = []
    for number in range(EACH):
        place = client * EACH + number
        headers = (("X-Tenant", f"tenant {client}.{number}"),) if number % 3 != 2 else ()
        made.append(TorchAsk(TEXT, f"{place} " + "b" * place, generate=3 + place,
                             request_id=f"ask-{place}", stream=bool(number % 2), greedy=True,
                             headers=(*headers, ("X-Other", "not chosen"), ("X-Long", LONG))))
    return made


def told(ask: TorchAsk) -> dict[str, str]:
    """The labels that it must have."""
    headers = dict(ask.headers)
    labels = {"x-long": LONG[:127], "x-request-id": ask.request_id}
    return labels | ({"x-tenant": headers["X-Tenant"]} if "X-Tenant" in headers else {})


def client(server: Server, asks: list[TorchAsk], keep: bool) -> list[Answer]:
    kept = http.client.HTTPConnection(server.host, server.port, timeout=300) if keep else None
    answers = [perform(server, ask, kept) for ask in asks]
    if kept:
        kept.close()
    return answers


def check_labels(picture: Picture, answers: list[Answer]) -> None:
    requests = {request.client_id: request for request in picture.requests.values()}
    for answer in answers:
        assert not answer.error, answer.error
        assert answer.client_id in requests, answer.client_id
        assert isinstance(answer.ask, TorchAsk)
        assert requests[answer.client_id].labels == told(answer.ask)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("keep", [False, True], ids=["closed", "kept"])
def test_labels(loop: str, keep: bool, tmp_path: Path) -> None:
    """Four clients at a time, with a connection for each request or one for all."""
    chosen = ("--header", "X-Tenant", "--header", "x-request-id", "--header", "X-LONG")
    with serving(torch_model(EXACT["olmoe"]), tmp_path / "server.log", loop=loop) as server:
        with recording(server.pid, tmp_path / "r.moeprobe", *chosen) as record:
            await_attached(server, record, poke=poke)
            with ThreadPoolExecutor(CLIENTS) as pool:
                answers = [answer for answers in pool.map(
                    lambda number: client(server, asks_of(number), keep), range(CLIENTS))
                    for answer in answers]
            server.wait_idle()
            picture = finished(record.stop(), tmp_path / "r.moeprobe")
    check_totals(picture)
    check_labels(picture, answers)
    shown = moeprobe("report", tmp_path / "r.moeprobe").out
    assert "x-tenant=tenant 3.4" in shown


def test_doctor_says_the_price(tmp_path: Path) -> None:
    with serving(torch_model(EXACT["olmoe"]), tmp_path / "server.log") as server:
        with_headers = moeprobe("doctor", server.pid, "--header", "x-tenant")
        without = moeprobe("doctor", server.pid)
    assert with_headers.code == 0, with_headers.err
    assert "request headers" in with_headers.out
    assert "of any process" in with_headers.out
    assert "request headers" not in without.out


def test_refused_by_name(olmoe_server: Server) -> None:
    """llama.cpp's requests are not joined with what clients sent."""
    said = moeprobe("attach", olmoe_server.pid, "--header", "x-tenant", "-d", "1")
    assert said.code == 5
    assert "llama.cpp" in said.err and "leave --header away" in said.err


def test_not_asked_for(tmp_path: Path) -> None:
    """Without the option no request has a label."""
    with serving(torch_model(EXACT["olmoe"]), tmp_path / "server.log") as server:
        with recording(server.pid, tmp_path / "r.moeprobe") as record:
            await_attached(server, record, poke=poke)
            client(server, asks_of(1), False)
            server.wait_idle()
            picture = finished(record.stop(), tmp_path / "r.moeprobe")
    assert not any(request.labels for request in picture.requests.values())


@pytest.mark.full
@pytest.mark.vllm
def test_vllm(tmp_path: Path) -> None:
    """vLLM's API server, whose requests are computed by other processes."""
    with vllm_serving(torch_model(EXACT["olmoe"]), tmp_path / "server.log") as server:
        with recording(server.pid, tmp_path / "r.moeprobe", "--header", "x-request-id") as record:
            await_attached(server, record, poke=lambda server, number: perform_vllm(
                server, VllmAsk(TEXT, f"poke {number}", 2, request_id=f"poke-{number}")))
            asks = [VllmAsk(TEXT, f"{number} is asked", 3 + number, request_id=f"ask-{number}")
                    for number in range(2 * CLIENTS)]
            with ThreadPoolExecutor(CLIENTS) as pool:
                answers = list(pool.map(lambda ask: perform_vllm(server, ask), asks))
            server.wait_idle()
            picture = finished(record.stop(), tmp_path / "r.moeprobe")
    requests = {request.client_id: request for request in picture.requests.values()}
    for ask, answer in zip(asks, answers, strict=True):
        assert not answer.error, answer.error
        assert requests[ask.client_id].labels == {"x-request-id": ask.request_id}


@pytest.mark.parametrize("names", [("x y",), ("",), ("a:b",), ("x" * 64,), tuple("abcde")])
def test_bad_names(names: tuple[str, ...]) -> None:
    """What is no name of a header, or one too many, is refused by name."""
    said = moeprobe("attach", "1", *(text for name in names for text in ("--header", name)))
    assert said.code == 2
    assert f"'{names[-1]}'" in said.err
