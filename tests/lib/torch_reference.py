# SPDX-License-Identifier: BSD-2-Clause
"""The independent forward, in a process of its own (the transformers environment's Python): the
whole sequence at once, float32, eager attention, no cache. Reads {"tokens": [...], "forced":
{layer: {position: [ids]}}} a line; answers with one npz: per routed layer L the arrays idsL and
weightsL as the experts module gets them, gapL (distance of the k-th and next score) and orderL.
argv: MODEL. Nothing of a family is known here: what is chosen is seen at torch.topk, what is applied
at the experts' inputs."""
from __future__ import annotations

import io
import json
import struct
import sys
from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode
from transformers import AutoModelForCausalLM

TOP_K = (torch.topk, torch.Tensor.topk)


class Routers(TorchFunctionMode):
    """Sees every top-k while a router runs; can make it choose otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self.k = self.experts = 0
        self.inside = False
        self.gaps: list[torch.Tensor] = []
        self.forced: dict[int, list[int]] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not self.inside or func not in TOP_K or args[0].dim() != 2:
            return result  # in three dimensions: scores of groups, nothing is chosen
        scores, k = args[0], result.indices.shape[-1]
        if k < scores.shape[-1]:
            best = scores.topk(k + 1, sorted=True).values
            self.gaps.append(best[:, k - 1] - best[:, k])
        if scores.shape[-1] == self.experts and k == self.k:
            for position, ids in self.forced.items():
                result.indices[position] = torch.tensor(ids)
                result.values[position] = scores[position, ids]
        return result


class Reference:
    def __init__(self, folder: str) -> None:
        self.model: Any = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager").eval()
        config = self.model.config
        self.routers = Routers()
        self.layers: dict[int, dict[str, np.ndarray]] = {}
        self.forced: dict[int, dict[int, list[int]]] = {}
        for number, layer in enumerate(self.model.model.layers):
            experts = getattr(layer.mlp, "experts", None)
            if experts is None:
                continue
            router = layer.mlp.router if hasattr(layer.mlp, "router") else layer.mlp.gate
            self.routers.k = config.num_experts_per_tok
            self.routers.experts = router.weight.shape[0]
            router.register_forward_pre_hook(lambda *_, number=number: self.enter(number))
            router.register_forward_hook(lambda *_: self.leave())
            experts.register_forward_pre_hook(
                lambda _, inputs, number=number: self.note(number, *inputs))

    def enter(self, number: int) -> None:
        self.routers.inside, self.routers.gaps = True, []
        self.routers.forced = self.forced.get(number, {})

    def leave(self) -> None:
        self.routers.inside = False

    def note(self, number: int, _: torch.Tensor, ids: torch.Tensor, weights: torch.Tensor) -> None:
        """In the gate order: falling weight, then id."""
        ids_of, weights_of = ids.numpy(), weights.numpy()
        order = np.lexsort((ids_of, -weights_of), axis=-1)
        sorted_weights = np.take_along_axis(weights_of, order, axis=-1)
        self.layers[number] = {
            "ids": np.take_along_axis(ids_of, order, axis=-1), "weights": sorted_weights,
            "gap": torch.stack(self.routers.gaps).min(dim=0).values.numpy(),
            "order": -np.diff(sorted_weights, axis=-1).max(axis=-1, initial=-np.inf)}

    def forward(self, tokens: list[int], forced: dict[str, dict[str, list[int]]]) -> bytes:
        self.layers = {}
        self.forced = {int(layer): {int(position): ids for position, ids in choices.items()}
                       for layer, choices in forced.items()}
        with torch.no_grad(), self.routers:
            logits = self.model(torch.tensor([tokens]), use_cache=False).logits
        arrays = {f"{what}{number}": values for number, layer in self.layers.items()
                  for what, values in layer.items()}
        result = io.BytesIO()
        np.savez(result, logits=logits[0, -1].numpy(), **arrays)
        return result.getvalue()


def main() -> None:
    torch.set_num_threads(1)
    reference = Reference(sys.argv[1])
    for line in sys.stdin:
        asked = json.loads(line)
        answer = reference.forward(asked["tokens"], asked.get("forced", {}))
        sys.stdout.buffer.write(struct.pack("<Q", len(answer)) + answer)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
