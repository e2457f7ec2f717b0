# SPDX-License-Identifier: BSD-2-Clause
"""What a PyTorch server itself saw, as the judge's truth: to the bit, also where scores are equal or
too coarse for another process to compute the same. Not independent; lib.torch_oracle is."""
from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lib.oracle import Choices, Layer


def in_gate_order(ids: np.ndarray, weights: np.ndarray) -> Layer:
    """By falling weight, then id. No choice was close: what happened, happened."""
    order = np.lexsort((ids, -weights), axis=-1)
    sure = np.full(len(ids), np.inf)
    return Layer(np.take_along_axis(ids, order, -1), np.take_along_axis(weights, order, -1),
                 sure, sure)


@dataclass
class Chain:
    """The rows of one sequence as they were computed."""

    tokens: list[int] = field(default_factory=list)
    ids: dict[int, list[Any]] = field(default_factory=dict)      # layer -> a row each
    weights: dict[int, list[Any]] = field(default_factory=dict)

    def add(self, token: int, ids: dict[int, Any], weights: dict[int, Any]) -> None:
        self.tokens.append(token)
        for layer in ids:
            self.ids.setdefault(layer, []).append(ids[layer])
            self.weights.setdefault(layer, []).append(weights[layer])


class ChainTruth:
    """Finds the chain that a recorded request is."""

    def __init__(self, chains: Iterable[Chain], layers: int) -> None:
        self.chains, self.layers = list(chains), layers

    def forward(self, tokens: list[int],
                forced: dict[int, Choices] | None = None) -> tuple[dict[int, Layer], None]:
        found = [chain for chain in self.chains if chain.tokens == list(tokens)]
        if not found:
            raise LookupError(f"the server computed no such sequence: {tokens}")
        return {layer: in_gate_order(np.asarray(ids), np.asarray(found[0].weights[layer]))
                for layer, ids in found[0].ids.items()}, None


def chains_of_batches(truth: dict[str, np.ndarray]) -> list[Chain]:
    """From serve_generate.py: a forward that begins at position 0 begins a batch, whose members keep
    their places in it until it ends. Padding is left out."""
    chains: list[Chain] = []
    batch: list[Chain] = []
    for number in range(sum(name.endswith(".tokens") for name in truth)):
        tokens, positions = truth[f"{number}.tokens"], truth[f"{number}.positions"]
        real = truth.get(f"{number}.real", np.ones_like(tokens)).astype(bool)
        if (positions[real] == 0).any():
            batch = [Chain() for _ in tokens]
            chains += batch
        layers = [int(name.rsplit(".", 1)[1]) for name in truth
                  if name.startswith(f"{number}.ids.")]
        width = tokens.shape[1]
        for place, column in zip(*np.nonzero(real), strict=True):
            row = place * width + column
            batch[place].add(int(tokens[place, column]),
                             {layer: truth[f"{number}.ids.{layer}"][row] for layer in layers},
                             {layer: truth[f"{number}.weights.{layer}"][row] for layer in layers})
    return chains


def chain_of_answer(answer: dict[str, Any]) -> Chain:
    """From serve_plain_torch.py, which tells its rows with each answer."""
    chain = Chain()
    for row in answer["rows"]:
        chain.add(row["token"], dict(enumerate(row["ids"])), dict(enumerate(row["weights"])))
    return chain
