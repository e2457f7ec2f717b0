# SPDX-License-Identifier: BSD-2-Clause
"""An operator's own server: http.server around model.generate(), batches padded on the left. Run by
the transformers environment's Python: serve_generate.py MODEL. Prints "LISTEN <url>", and a JSON line
for each batch when it ends, also for cancelled ones.

POST /generate {"prompts": [[ids]], "generate": n, "seed", "top_k", "top_p"} -> {"generated": [[ids]]}
GET /truth -> npz: for every forward since the start F its inputs, and what its experts got."""
from __future__ import annotations

import argparse
import io
import json
import os
import select
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, StoppingCriteria, StoppingCriteriaList


class Truth:
    """Notes each forward as the model's own modules see it."""

    def __init__(self, model: Any) -> None:
        self.arrays: dict[str, np.ndarray] = {}
        self.forward = -1
        if model is None:
            return
        model.model.register_forward_pre_hook(self.begin, with_kwargs=True)
        for number, layer in enumerate(model.model.layers):
            if hasattr(layer.mlp, "experts"):
                layer.mlp.experts.register_forward_pre_hook(
                    lambda _, inputs, number=number: self.note(number, *inputs))

    def begin(self, _: Any, inputs: Any, named: dict[str, Any]) -> None:
        self.forward += 1
        tokens = named["input_ids"] if named.get("input_ids") is not None else inputs[0]
        self.arrays[f"{self.forward}.tokens"] = tokens.numpy().copy()
        self.arrays[f"{self.forward}.positions"] = named["position_ids"].numpy().copy()
        if named.get("attention_mask") is not None and named["attention_mask"].dim() == 2:
            mask = named["attention_mask"][:, -tokens.shape[1]:]
            self.arrays[f"{self.forward}.real"] = mask.numpy().copy()

    def note(self, number: int, _: Any, ids: torch.Tensor, weights: torch.Tensor) -> None:
        self.arrays[f"{self.forward}.ids.{number}"] = ids.numpy().copy()
        self.arrays[f"{self.forward}.weights.{number}"] = weights.detach().float().numpy().copy()


class ClientLeft(StoppingCriteria):
    """Ends a batch whose client closed its socket."""

    def __init__(self, client: socket.socket) -> None:
        self.client, self.left = client, False

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        if select.select([self.client], [], [], 0)[0]:
            self.left = self.left or not self.client.recv(1, socket.MSG_PEEK)
        return torch.full((input_ids.shape[0],), self.left)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    model: Any
    truth: Truth
    turn = threading.Lock()

    def answer(self, kind: str, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        if self.headers.get("x-request-id"):
            self.send_header("x-request-id", self.headers["x-request-id"])
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Only batches are told."""

    def do_GET(self) -> None:
        if self.path == "/truth":
            with self.turn:
                content = io.BytesIO()
                np.savez(content, **self.truth.arrays)
            self.answer("application/octet-stream", content.getvalue())
        else:
            self.answer("application/json", json.dumps({"status": "ok"}).encode())

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        left = ClientLeft(self.connection)
        with self.turn:
            generated = self.generate(asked, left)
        name = self.headers.get("x-request-id", "")
        told = {"id": name, "generated": generated}
        os.write(1, (json.dumps(told | {"cancelled": left.left, "prompts": asked["prompts"]})
                     + "\n").encode())
        self.close_connection = left.left
        if not left.left:
            self.answer("application/json", json.dumps(told).encode())

    def generate(self, asked: dict[str, Any], left: ClientLeft) -> list[list[int]]:
        prompts = asked["prompts"]
        longest = max(map(len, prompts))
        pad = self.model.config.pad_token_id
        tokens = torch.tensor([[pad] * (longest - len(one)) + one for one in prompts])
        mask = torch.tensor([[0] * (longest - len(one)) + [1] * len(one) for one in prompts])
        torch.manual_seed(asked.get("seed", 0))
        result = self.model.generate(
            input_ids=tokens, attention_mask=mask, max_new_tokens=asked["generate"],
            do_sample="top_k" in asked, top_k=asked.get("top_k"), top_p=asked.get("top_p"),
            stopping_criteria=StoppingCriteriaList([left]))
        generated: list[list[int]] = result[:, longest:].tolist()
        return generated


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--attention", choices=("sdpa", "eager"), help="default: the model decides")
    parser.add_argument("--threads", type=int, help="that compute")
    parser.add_argument("--no-truth", action="store_true", help="note no forwards: /truth is empty")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    Handler.model = AutoModelForCausalLM.from_pretrained(
        options.model, dtype="auto", attn_implementation=options.attention).eval()
    Handler.truth = Truth(None if options.no_truth else Handler.model)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    os.write(1, f"\nLISTEN http://127.0.0.1:{server.server_address[1]}\n".encode())
    server.serve_forever()


if __name__ == "__main__":
    main()
