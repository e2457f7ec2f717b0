# SPDX-License-Identifier: BSD-2-Clause
"""Generated model folders for PyTorch, kept between runs as the GGUF models are."""
from __future__ import annotations

import hashlib
import subprocess
from dataclasses import fields
from pathlib import Path

from lib.moeprobe import BUILD
from lib.torch_env import PYTHON, environment
from models import make_torch_model
from models.make_torch_model import TorchShape

EXACT = {
    "olmoe": TorchShape("olmoe"),
    "qwen3_moe": TorchShape("qwen3_moe", seed=2),
    "mixtral": TorchShape("mixtral", experts=8, k=2, seed=3),
    "deepseek_v2": TorchShape("deepseek_v2", seed=4),
    "deepseek_v2_groups": TorchShape("deepseek_v2_groups", seed=5),
    "deepseek_v3": TorchShape("deepseek_v3", seed=6),
    "gpt_oss": TorchShape("gpt_oss", seed=7),
    "olmoe_64": TorchShape("olmoe", experts=64, k=8, seed=8),
}
TIES = TorchShape("olmoe", dtype="bfloat16", twins=4, seed=9)
DENSE = TorchShape("llama", seed=10)


def torch_model(shape: TorchShape) -> Path:
    """The folder of @shape, made if it is not there yet."""
    source = Path(make_torch_model.__file__).read_bytes()
    name = hashlib.sha256(source + repr(shape).encode()).hexdigest()[:12]
    folder = BUILD / "models" / f"{shape.family}-{name}"
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        options = [text for option in fields(shape)
                   for text in ("--" + option.name, str(getattr(shape, option.name)))]
        subprocess.run([str(PYTHON), make_torch_model.__file__, str(folder), *options],
                       env=environment(), check=True, capture_output=True)
    return folder
