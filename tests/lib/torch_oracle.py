# SPDX-License-Identifier: BSD-2-Clause
"""Ground truth for model folders: transformers' own modules in a process apart (all families), and
for some families NumPy, which shares no code with it."""
from __future__ import annotations

import io
import json
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from lib.oracle import Array, Choices, Layer, Oracle
from lib.torch_env import PYTHON, environment

REFERENCE = Path(__file__).with_name("torch_reference.py")


class TorchOracle:
    """Asks a reference process; as lib.oracle.Oracle, but only routed layers have an entry."""

    def __init__(self, folder: Path, process: subprocess.Popen[bytes]) -> None:
        self.folder, self.process = folder, process
        self.layers = int(json.loads((folder / "config.json").read_text())["num_hidden_layers"])

    def forward(self, tokens: list[int],
                forced: dict[int, Choices] | None = None) -> tuple[dict[int, Layer], Array]:
        asked = {"tokens": list(tokens), "forced": {
            layer: {position: [int(i) for i in ids] for position, ids in choices.items()}
            for layer, choices in (forced or {}).items()}}
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps(asked).encode() + b"\n")
        self.process.stdin.flush()
        head = self.process.stdout.read(8)
        if len(head) != 8:
            raise RuntimeError(f"the reference on {self.folder} ended, see its log")
        answer = np.load(io.BytesIO(self.process.stdout.read(*struct.unpack("<Q", head))))
        return {number: Layer(answer[f"ids{number}"], answer[f"weights{number}"],
                              answer[f"gap{number}"], answer[f"order{number}"])
                for number in range(self.layers) if f"ids{number}" in answer}, answer["logits"]


@contextmanager
def torch_oracle(folder: Path, log: Path) -> Iterator[TorchOracle]:
    """The reference process on the model in @folder; its complaints go to @log."""
    with log.open("wb") as complaints:
        process = subprocess.Popen([str(PYTHON), str(REFERENCE), str(folder)], env=environment(),
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   stderr=complaints)
    try:
        yield TorchOracle(folder, process)
    finally:
        assert process.stdin
        process.stdin.close()
        process.wait(20)


def safetensors(path: Path) -> dict[str, np.ndarray]:
    """All tensors of a file, as float64. A length, a JSON header, the bytes."""
    data = path.read_bytes()
    size = struct.unpack_from("<Q", data)[0]
    tensors: dict[str, np.ndarray] = {}
    for name, entry in json.loads(data[8:8 + size]).items():
        if name == "__metadata__":
            continue
        if entry["dtype"] != "F32":
            raise ValueError(f"{name} is {entry['dtype']}")
        begin, end = (8 + size + place for place in entry["data_offsets"])
        tensors[name] = np.frombuffer(data[begin:end], "<f4").astype(np.float64).reshape(
            entry["shape"])
    return tensors


GGUF_NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm", "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm", "mlp.gate": "ffn_gate_inp",
}


class NumpyTorchOracle(Oracle):
    """The GGUF oracle's mathematics on a folder of olmoe or qwen3_moe."""

    def __init__(self, folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        self.arch = {"olmoe": "olmoe", "qwen3_moe": "qwen3moe"}[config["model_type"]]
        self.layers = int(config["num_hidden_layers"])
        self.heads = int(config["num_attention_heads"])
        self.kv_heads = int(config["num_key_value_heads"])
        self.experts = int(config.get("num_experts") or config["num_local_experts"])
        self.k = int(config["num_experts_per_tok"])
        self.base = float(config["rope_parameters"]["rope_theta"])
        self.epsilon = float(config["rms_norm_eps"])
        found = safetensors(folder / "model.safetensors")
        self.tensors = {"token_embd.weight": found["model.embed_tokens.weight"],
                        "output_norm.weight": found["model.norm.weight"],
                        "output.weight": found["lm_head.weight"]}
        for layer in range(self.layers):
            self._take_layer(found, f"model.layers.{layer}.", f"blk.{layer}.")

    def _take_layer(self, found: dict[str, Any], theirs: str, ours: str) -> None:
        for name, gguf_name in GGUF_NAMES.items():
            if f"{theirs}{name}.weight" in found:
                self.tensors[f"{ours}{gguf_name}.weight"] = found[f"{theirs}{name}.weight"]
        for name in ("gate", "up", "down"):
            self.tensors[f"{ours}ffn_{name}_exps.weight"] = np.stack(
                [found[f"{theirs}mlp.experts.{expert}.{name}_proj.weight"]
                 for expert in range(self.experts)])
