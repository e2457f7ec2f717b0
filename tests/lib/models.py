# SPDX-License-Identifier: BSD-2-Clause
"""Generated models, kept between runs: the file's name holds its shape and its generator."""
from __future__ import annotations

import hashlib
from pathlib import Path

from lib.moeprobe import BUILD
from models import make_model

EXACT = {
    "olmoe": make_model.Shape("olmoe"),
    "qwen3moe": make_model.Shape("qwen3moe", layers=5, experts=24, kv_heads=2, seed=2),
    "mixtral": make_model.Shape("mixtral", layers=4, experts=8, k=2, kv_heads=1, seed=3),
}
DENSE = make_model.Shape("dense")


def model(shape: make_model.Shape) -> Path:
    """The file of @shape, made if it is not there yet."""
    source = Path(make_model.__file__).read_bytes()
    name = hashlib.sha256(source + repr(shape).encode()).hexdigest()[:12]
    path = BUILD / "models" / f"{shape.arch}-{name}.gguf"
    return path if path.exists() else make_model.make_model(path, shape)
