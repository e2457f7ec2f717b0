# SPDX-License-Identifier: BSD-2-Clause
"""What a perfect recording of a PyTorch server would say, made from the truth, so that the judge can
be tested before and besides any capture. Records are made as the reader would give them."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lib.client import Answer
from lib.judge import Truth
from lib.recording import DECODE, MISSING, OUTPUT, PREFILL, UNKNOWN, UNKNOWN_64, Picture, Record, Recording


def record(kind: str, columns: dict[str, Any] | None = None, **fields: Any) -> Record:
    return Record(kind, 1000, 1, 0, fields, columns or {})


@dataclass
class Row:
    """One token that one step computed."""

    request: int
    position: int
    token: int
    phase: int
    output: bool
    routes: dict[int, tuple[Any, Any]]  # layer -> ids, weights


def rows_of(number: int, answer: Answer, truth: Truth, cached: int = 0) -> list[Row]:
    """The rows that a server computes for @answer; the last sampled token is never evaluated."""
    tokens = (answer.prompt + answer.generated)[:-1]
    layers, _ = truth.forward(tokens)
    numbers = layers if isinstance(layers, dict) else range(len(layers))
    prompt = len(answer.prompt)
    return [Row(number, position, tokens[position], PREFILL if position < prompt else DECODE,
                position >= prompt - 1,
                {layer: (layers[layer].ids[position].copy(),
                         layers[layer].weights[position].astype(np.float32))
                 for layer in numbers})
            for position in range(cached, len(tokens))]


def steps_of(requests: list[list[Row]], prompts: list[int]) -> list[list[Row]]:
    """Continuous batching: every request's prompt in one step, then a token a step, packed."""
    waiting = [[rows[:prompt], *([row] for row in rows[prompt:])]
               for rows, prompt in zip(requests, prompts, strict=True)]
    steps: list[list[Row]] = []
    while any(waiting):
        steps.append([row for one in waiting if one for row in one.pop(0)])
    return steps


def begin_of(number: int, answer: Answer, cached: int) -> list[Record]:
    tokens = np.asarray([] if cached else answer.prompt, "<i4")  # nobody sees those in the cache
    return [record("sequence", sequence=number, context=1, slot=UNKNOWN, epoch=UNKNOWN),
            record("request_begin", {"client_id": answer.client_id or "", "tokens": tokens},
                   request=number, context=1, sequence=number, slot=UNKNOWN, task=UNKNOWN,
                   cached=cached, prompt=len(answer.prompt), prompt_known=len(tokens),
                   begin_ns=900)]


def step_of(number: int, rows: list[Row]) -> list[Record]:
    columns = {"sequence": [row.request for row in rows], "request": [row.request for row in rows],
               "position": [row.position for row in rows], "phase": [row.phase for row in rows],
               "row_flags": [OUTPUT * row.output for row in rows],
               "token": [row.token for row in rows]}
    said = [record("step", {name: np.asarray(values) for name, values in columns.items()},
                   step=number, begin_ns=900, end_ns=950, context=1, rows=len(rows),
                   batch=UNKNOWN_64)]
    for layer in sorted({layer for row in rows for layer in row.routes}):
        chosen = [index for index, row in enumerate(rows) if layer in row.routes]
        said.append(record(
            "route", {"row": np.asarray(chosen),
                      "ids": np.stack([rows[index].routes[layer][0] for index in chosen]),
                      "weights": np.stack([rows[index].routes[layer][1] for index in chosen])},
            step=number, context=1, layer=layer, rows=len(chosen)))
    return said


def end_of(number: int, rows: list[Row], cached: int, layers: list[int]) -> list[Record]:
    end = record("request_end", request=number, ending=1, rows=len(rows), tokens=cached + len(rows))
    return [end, *(record("coverage", request=number, layer=layer, expected=cached + len(rows),
                          seen=len(rows), **{cause: cached * (cause == "cached")
                                             for cause in MISSING}) for layer in layers)]


def picture_of(requests: list[tuple[Answer, int, list[Row]]], layers: list[int]) -> Picture:
    """@requests: what the client got, its cached prefix, its rows. The story may be false."""
    steps = steps_of([rows for _, _, rows in requests],
                     [len(answer.prompt) - cached for answer, cached, _ in requests])
    records = [record("model", {"layer_ids": np.asarray(layers)}, context=1)]
    for number, (answer, cached, _) in enumerate(requests, 1):
        records += begin_of(number, answer, cached)
    for number, rows in enumerate(steps, 1):
        records += step_of(number, rows)
    for number, (_, cached, rows) in enumerate(requests, 1):
        records += end_of(number, rows, cached, layers)
    routes = [one for one in records if one.type == "route"]
    records.append(record(
        "end", stop=1, records=len(records), steps=len(steps), rows=sum(map(len, steps)),
        routes=len(routes), decisions=sum(one.fields["rows"] for one in routes), lost=0, invalid=0))
    return Picture(Recording(records, True))
