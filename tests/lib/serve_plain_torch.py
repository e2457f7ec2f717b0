# SPDX-License-Identifier: BSD-2-Clause
"""Any libtorch program: a small mixture of experts written in torch alone, behind http.server. Run by
the transformers environment's Python. Prints "LISTEN <url>".

POST /generate {"tokens": [ids], "generate": n} -> {"generated": [ids], "rows": what every row was and
did: {"token", "position", "ids": [[k] a layer], "weights": [[k] a layer]}}"""
from __future__ import annotations

import argparse
import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

VOCABULARY, WIDTH, LAYERS, EXPERTS, CHOSEN, HEADS = 320, 96, 3, 12, 3, 3
SEED = 11


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Linear(WIDTH, WIDTH, bias=False)
        self.key = nn.Linear(WIDTH, WIDTH, bias=False)
        self.value = nn.Linear(WIDTH, WIDTH, bias=False)
        self.router = nn.Linear(WIDTH, EXPERTS, bias=False)
        self.up = nn.Parameter(torch.randn(EXPERTS, WIDTH, 2 * WIDTH) * WIDTH ** -0.5)
        self.down = nn.Parameter(torch.randn(EXPERTS, 2 * WIDTH, WIDTH) * (2 * WIDTH) ** -0.5)
        nn.init.normal_(self.router.weight, std=2 * WIDTH ** -0.5)

    def attention(self, values: Tensor, turn: tuple[Tensor, Tensor], past: list[Tensor]) -> Tensor:
        normed = functional.layer_norm(values, (WIDTH,))
        query, key, value = (part(normed).view(-1, HEADS, WIDTH // HEADS).transpose(0, 1)
                             for part in (self.query, self.key, self.value))
        query, key = rotate(query, *turn), rotate(key, *turn)
        if past:
            key, value = torch.cat([past[0], key], 1), torch.cat([past[1], value], 1)
        past[:] = [key, value]
        shape = query.shape[1], key.shape[1]
        visible = torch.ones(shape, dtype=torch.bool).tril(shape[1] - shape[0])
        result = functional.scaled_dot_product_attention(query, key, value, attn_mask=visible)
        return result.transpose(0, 1).reshape(-1, WIDTH)

    def route(self, normed: Tensor) -> tuple[Tensor, Tensor]:
        weights, ids = torch.topk(torch.softmax(self.router(normed), -1), CHOSEN, -1)
        return weights / weights.sum(-1, keepdim=True), ids

    def forward(self, values: Tensor, turn: tuple[Tensor, Tensor],
                past: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        values = values + self.attention(values, turn, past)
        normed = functional.layer_norm(values, (WIDTH,))
        weights, ids = self.route(normed)
        mixed = torch.zeros_like(values)
        for expert in ids.unique().tolist():
            row, place = torch.where(ids == expert)
            inner = functional.silu(normed[row] @ self.up[expert])
            mixed.index_add_(0, row, inner @ self.down[expert] * weights[row, place, None])
        return values + mixed, ids, weights


def rotate(values: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    first, second = values.chunk(2, -1)
    return torch.cat([first * cosine - second * sine, first * sine + second * cosine], -1)


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, WIDTH)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
        size = WIDTH // HEADS
        self.frequency = 10000.0 ** (-torch.arange(0, size, 2) / size)

    def begin(self, tokens: Tensor, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        angle = positions[:, None] * self.frequency
        cosine, sine = angle.cos(), angle.sin()
        return self.embedding(tokens), cosine, sine

    def compile_parts(self, backend: str) -> None:
        """What has no data-dependent sizes: tokens to values, and the routers."""
        setattr(self, "begin", torch.compile(self.begin, backend=backend, dynamic=True))
        for layer in self.layers:
            setattr(layer, "route", torch.compile(layer.route, backend=backend, dynamic=True))

    def forward(self, tokens: Tensor, first: int, past: list[list[Tensor]],
                rows: list[dict[str, Any]]) -> Tensor:
        """The logits of the last token; notes every row in @rows."""
        positions = torch.arange(first, first + len(tokens))
        values, *turn = self.begin(tokens, positions)
        noted = [{"token": int(token), "position": int(position), "ids": [], "weights": []}
                 for token, position in zip(tokens, positions, strict=True)]
        for layer, kept in zip(self.layers, past, strict=True):
            values, ids, weights = layer(values, (turn[0], turn[1]), kept)
            for row, one_ids, one_weights in zip(noted, ids.tolist(), weights.tolist(), strict=True):
                row["ids"].append(one_ids)
                row["weights"].append(one_weights)
        rows += noted
        return functional.layer_norm(values[-1], (WIDTH,)) @ self.embedding.weight.T


class Handler(BaseHTTPRequestHandler):
    model: Model
    turn = threading.Lock()

    def answer(self, what: dict[str, Any]) -> None:
        content = json.dumps(what).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        self.answer({"status": "ok"})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        tokens, rows = list(asked["tokens"]), list[dict[str, Any]]()
        past: list[list[Tensor]] = [[] for _ in range(LAYERS)]
        with self.turn, torch.no_grad():
            for _ in range(asked["generate"]):
                logits = self.model(torch.tensor(tokens[len(rows):]), len(rows), past, rows)
                tokens.append(int(logits.argmax()))
        self.answer({"generated": tokens[len(asked["tokens"]):], "rows": rows})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--compile", metavar="BACKEND", help="of torch.compile()")
    options = parser.parse_args()
    torch.manual_seed(SEED)
    Handler.model = Model().eval()
    if options.compile:
        Handler.model.compile_parts(options.compile)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    os.write(1, f"\nLISTEN http://127.0.0.1:{server.server_address[1]}\n".encode())
    server.serve_forever()


if __name__ == "__main__":
    main()
