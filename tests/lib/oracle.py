# SPDX-License-Identifier: BSD-2-Clause
"""Ground truth: an independent forward pass in NumPy over the GGUF file's own weights.

Written from the architectures' definitions, sharing nothing with what it judges. Everything is
computed in float64, so what remains is the server's own rounding; `Layer` says how close each
choice was.
"""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Choices = dict[int, NDArray[np.int64]]  # position -> expert ids


@dataclass(frozen=True)
class Layer:
    """What one layer's router chose for each position, in descending gate order."""

    ids: NDArray[np.int64]  # [tokens, k]
    weights: Array          # [tokens, k]: as applied to the experts' outputs
    gap: Array              # [tokens]: smallest distance between gates k and k + 1
    order_gap: Array        # [tokens]: smallest distance between chosen neighbours


class Oracle:
    """One model. `forward` gives the routing of every layer and the logits."""

    def __init__(self, path: Path) -> None:
        reader = gguf.GGUFReader(str(path))

        def value(key: str, default: Any = None) -> Any:
            found = reader.fields.get(key)
            return default if found is None else found.contents()

        self.arch = str(value("general.architecture"))
        self.layers = int(value(self.arch + ".block_count"))
        self.heads = int(value(self.arch + ".attention.head_count"))
        self.kv_heads = int(value(self.arch + ".attention.head_count_kv"))
        self.experts = int(value(self.arch + ".expert_count", 0))
        self.k = int(value(self.arch + ".expert_used_count", 0))
        self.base = float(value(self.arch + ".rope.freq_base"))
        self.epsilon = float(value(self.arch + ".attention.layer_norm_rms_epsilon"))
        self.tensors = {tensor.name: gguf.quants.dequantize(tensor.data, tensor.tensor_type)
                        .astype(np.float64) for tensor in reader.tensors}

    def rms_norm(self, values: Array, name: str) -> Array:
        scale = np.sqrt(np.mean(values * values, axis=-1, keepdims=True) + self.epsilon)
        result: Array = values / scale * self.tensors[name]
        return result

    def rotate(self, values: Array) -> Array:
        """Rotary positions on [tokens, heads, size]: "llama" turns neighbouring pairs, the
        others turn each half against the other."""
        tokens, _, size = values.shape
        angle = np.arange(tokens)[:, None] * self.base ** (-np.arange(0, size, 2) / size)
        cosine, sine = np.cos(angle)[:, None], np.sin(angle)[:, None]
        turned = np.empty_like(values)
        if self.arch == "llama":
            first, second = slice(0, None, 2), slice(1, None, 2)
        else:
            first, second = slice(0, size // 2), slice(size // 2, None)
        turned[..., first] = values[..., first] * cosine - values[..., second] * sine
        turned[..., second] = values[..., first] * sine + values[..., second] * cosine
        return turned

    def attention(self, values: Array, prefix: str) -> Array:
        tokens, width = values.shape
        query, key, value = (values @ self.tensors[f"{prefix}attn_{name}.weight"].T
                             for name in "qkv")
        if self.arch == "olmoe":
            query = self.rms_norm(query, prefix + "attn_q_norm.weight")
            key = self.rms_norm(key, prefix + "attn_k_norm.weight")
        query = query.reshape(tokens, self.heads, -1)
        key = key.reshape(tokens, self.kv_heads, -1)
        value = value.reshape(tokens, self.kv_heads, -1)
        if self.arch == "qwen3moe":
            query = self.rms_norm(query, prefix + "attn_q_norm.weight")
            key = self.rms_norm(key, prefix + "attn_k_norm.weight")
        query, key = self.rotate(query), self.rotate(key)
        hidden = np.triu(np.ones((tokens, tokens), dtype=bool), 1)
        result = np.empty_like(query)
        for head in range(self.heads):
            shared = head * self.kv_heads // self.heads
            score = query[:, head] @ key[:, shared].T / np.sqrt(query.shape[-1])
            score[hidden] = -np.inf
            result[:, head] = softmax(score) @ value[:, shared]
        return result.reshape(tokens, width) @ self.tensors[prefix + "attn_output.weight"].T

    def route(self, values: Array, prefix: str, forced: Choices) -> Layer:
        gates = softmax(values @ self.tensors[prefix + "ffn_gate_inp.weight"].T)
        order = np.argsort(-gates, axis=-1, kind="stable")
        ranked = np.take_along_axis(gates, order, axis=-1)
        distance = ranked[:, :-1] - ranked[:, 1:]
        ids = order[:, :self.k].copy()
        for position, choice in forced.items():
            ids[position] = choice
        chosen = np.take_along_axis(gates, ids, axis=-1)
        if self.arch in ("qwen3moe", "llama"):
            chosen = chosen / chosen.sum(axis=-1, keepdims=True)
        return Layer(ids, chosen, distance[:, self.k - 1],
                     distance[:, :self.k - 1].min(axis=-1, initial=np.inf))

    def experts_of(self, values: Array, layer: Layer, prefix: str) -> Array:
        gate, up, down = (self.tensors[f"{prefix}ffn_{name}_exps.weight"]
                          for name in ("gate", "up", "down"))
        result = np.zeros_like(values)
        for expert in np.unique(layer.ids):
            token, place = np.nonzero(layer.ids == expert)
            rows = values[token]
            inner = silu(rows @ gate[expert].T) * (rows @ up[expert].T)
            result[token] += layer.weights[token, place][:, None] * (inner @ down[expert].T)
        return result

    def forward(self, tokens: list[int],
                forced: dict[int, Choices] | None = None) -> tuple[list[Layer], Array]:
        """The routing of each layer, and the logits of the last token. @forced: by layer and
        position, choices to follow instead of its own (where a near tie fell the other way,
        what comes after is judged on the way that was taken)."""
        values = self.tensors["token_embd.weight"][np.asarray(tokens)]
        routing: list[Layer] = []
        for number in range(self.layers):
            prefix = f"blk.{number}."
            values = values + self.attention(
                self.rms_norm(values, prefix + "attn_norm.weight"), prefix)
            normed = self.rms_norm(values, prefix + "ffn_norm.weight")
            layer = self.route(normed, prefix, (forced or {}).get(number, {}))
            routing.append(layer)
            values = values + self.experts_of(normed, layer, prefix)
        last = self.rms_norm(values[-1:], "output_norm.weight")
        return routing, (last @ self.tensors["output.weight"].T)[0]


def softmax(values: Array) -> Array:
    raised = np.exp(values - values.max(axis=-1, keepdims=True))
    result: Array = raised / raised.sum(axis=-1, keepdims=True)
    return result


def silu(values: Array) -> Array:
    result: Array = values / (1 + np.exp(-values))
    return result
