# SPDX-License-Identifier: BSD-2-Clause
"""How recordings of vLLM are judged, live ones and replayed ones."""
from __future__ import annotations

from pathlib import Path

from lib.client import TEXT, Answer
from lib.judge import Rules, Verdict, judge
from lib.recording import Picture
from lib.server import Server
from lib.torch_oracle import torch_oracle
from lib.vllm_client import VllmAsk, perform
from lib.vllm_server import BLOCK


def poke(server: Server, number: int) -> Answer:
    return perform(server, VllmAsk(TEXT, f"poke {number}", 2, request_id=f"poke-{number}"))


def without_rows(picture: Picture, early: list[Answer]) -> list[Answer]:
    """Leave out early requests of which nothing was computed before our eyes: layouts were being
    found out."""
    gone = {request.client_id for request in picture.requests.values()
            if not request.rows} & {answer.client_id for answer in early}
    for number in [number for number, request in picture.requests.items()
                   if request.client_id in gone]:
        del picture.requests[number]
    return [answer for answer in early if answer.client_id not in gone]


def verdict_of(picture: Picture, answers: list[Answer], early: list[Answer], model: Path,
               tmp_path: Path, preempts: bool = True) -> Verdict:
    early = without_rows(picture, early)
    with torch_oracle(model, tmp_path / "reference.log") as oracle:
        return judge(picture, answers, oracle, optional=early, rules=Rules(
            last_layer_outputs=False, page=BLOCK, preempts=preempts))
