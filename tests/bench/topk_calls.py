# SPDX-License-Identifier: BSD-2-Clause
"""A libtorch program that times its routers' top-k: run by the transformers environment's Python. For
each line N on standard input it computes N steps and prints the median time of a call, ns."""
from __future__ import annotations

import sys
from time import perf_counter_ns

import torch
from torch import Tensor

LAYERS, WIDTH, EXPERTS, K, VOCABULARY = 16, 512, 64, 8, 512


def steps(count: int, embedding: Tensor, inner: Tensor, router: Tensor) -> int:
    """Between two calls a layer's weights go through the caches, as in a model."""
    times = []
    for step in range(count):
        values = torch.nn.functional.embedding(torch.tensor([step % VOCABULARY]), embedding)
        for layer in range(LAYERS):
            values = torch.tanh(values @ inner[layer])
            scores = torch.softmax(values @ router[layer], -1)
            begin = perf_counter_ns()
            torch.topk(scores, K)
            times.append(perf_counter_ns() - begin)
    return sorted(times)[len(times) // 2]


def main() -> None:
    torch.manual_seed(1)
    torch.set_num_threads(1)
    weights = [torch.randn(*shape) * WIDTH ** -0.5 for shape in
               ((VOCABULARY, WIDTH), (LAYERS, WIDTH, WIDTH), (LAYERS, WIDTH, EXPERTS))]
    with torch.no_grad():
        steps(10, *weights)
        print("ready", flush=True)
        for line in sys.stdin:
            print(steps(int(line), *weights), flush=True)


if __name__ == "__main__":
    main()
