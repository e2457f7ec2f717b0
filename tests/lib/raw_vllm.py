# SPDX-License-Identifier: BSD-2-Clause
"""The raw log of a real vLLM that `make check` replays: tests/raw/vllm.raw.xz, what the programs in
the kernel delivered of one run, and tests/raw/vllm.json, what the clients of that run were told.

Raw events are private to one build, so whoever changes probe/abi (or how raw logs are written)
records again, in the same commit:

    make raw-vllm

which builds, makes .venv-vllm if it is not there, starts vLLM on a small generated model, captures
while eight clients ask, judges what was captured, and only then replaces the two files: two minutes
or three, and root. Then the seeds of the fuzzer of replays are made anew too (raw_seeds.py)."""
from __future__ import annotations

import hashlib
import json
import lzma
import shutil
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

# pylint: disable=wrong-import-position
from lib import raw_seeds  # noqa: E402
from lib.client import Answer  # noqa: E402
from lib.judge import Verdict  # noqa: E402
from lib.moeprobe import BUILD, ROOT  # noqa: E402
from lib.raw_log import capture_raw, differences  # noqa: E402
from lib.raw_log import replay as replay_raw  # noqa: E402
from lib.recording import Picture, Request, read  # noqa: E402
from lib.torch_models import EXACT, torch_model  # noqa: E402
from lib.torch_oracle import safetensors  # noqa: E402
from lib.vllm_client import VllmAsk, crowd, long_asks, vllm_asks  # noqa: E402
from lib.vllm_judge import poke, verdict_of  # noqa: E402
from lib.vllm_server import Setting, vllm_serving  # noqa: E402

AGAIN = "record again with `make raw-vllm`"
RAW, TOLD = ROOT / "tests/raw/vllm.raw.xz", ROOT / "tests/raw/vllm.json"
FAMILY = "olmoe"
# So few blocks that requests are preempted, pieces so small that prompts come in several.
SETTING = Setting(context=320, blocks=13, chunk=64)
TRIES = 5
RAW_MAX = 32 << 20    # bytes of the log, decompressed
FIXTURE_MAX = 400 << 10


def raw_asks(seed: int) -> list[VllmAsk]:
    """A small crowd with all that vLLM meets; the long ones come first, so that there are others
    beside them which need room as they grow."""
    mixed = vllm_asks(seed, count=8, longest=110, cancelled=1, generate=16)
    return [replace(ask, generate=min(ask.generate, 80)) for ask in long_asks(seed, 4) + mixed]


# --- what the fixture depends on ------------------------------------------------------------------

def abi_digest() -> str:
    """Over what the kernel programs and the collector share."""
    digest = hashlib.sha256()
    for header in sorted((ROOT / "probe/abi").glob("*.h")):
        digest.update(header.name.encode() + b"\0" + header.read_bytes() + b"\0")
    return digest.hexdigest()


def weights_digest(model: Path) -> str:
    """Over the names and values of all tensors."""
    digest = hashlib.sha256()
    for name, tensor in sorted(safetensors(model / "model.safetensors").items()):
        digest.update(f"{name} {tensor.shape}\0".encode() + tensor.astype("<f4").tobytes())
    return digest.hexdigest()


# --- the two files --------------------------------------------------------------------------------

ANSWER = ("prompt", "generated", "count", "client_id", "cached", "cancelled", "error", "finish")


def told_of(answer: Answer) -> dict[str, Any]:
    ask = {name: value for name, value in asdict(answer.ask).items() if name != "ids"}
    return {"ask": ask, **{name: getattr(answer, name) for name in ANSWER}}


def answer_of(told: dict[str, Any]) -> Answer:
    ask = VllmAsk(**{**told["ask"], "stop": tuple(told["ask"]["stop"]),
                     "ids": tuple(told["prompt"])})
    return Answer(ask, **{name: told[name] for name in ANSWER})


def load_told() -> dict[str, Any]:
    told: dict[str, Any] = json.loads(TOLD.read_text())
    return told


def unpack(out: Path) -> Path:
    """The log itself."""
    data = lzma.LZMADecompressor().decompress(RAW.read_bytes(), RAW_MAX)
    out.write_bytes(data)
    return out


def write(raw: Path, told: dict[str, Any]) -> None:
    RAW.parent.mkdir(exist_ok=True)
    RAW.write_bytes(lzma.compress(raw.read_bytes(), preset=9 | lzma.PRESET_EXTREME))
    lines = ",\n".join(f" {json.dumps(key)}: " + (
        "[\n  " + ",\n  ".join(json.dumps(one) for one in value) + "\n ]"
        if isinstance(value, list) else json.dumps(value)) for key, value in told.items())
    TOLD.write_text("{\n" + lines + "\n}\n")


# --- what it must show ----------------------------------------------------------------------------

def preempted(request: Request) -> bool:
    """Some rows were computed again."""
    return len(set(request.position)) < request.rows


def lacks(picture: Picture, verdict: Verdict) -> list[str]:
    """What a recording that is worth keeping shows, and this one does not."""
    shown = {
        "a cancelled request": verdict.unfinished == 1,
        "1,500 decisions": verdict.decisions > 1500,
        "a prefix from the cache": any(request.begin.fields["cached"]
                                       for request in picture.requests.values()),
        "a prompt in pieces": any(len({step for step, phase in zip(request.step, request.phase)
                                       if not phase}) > 1
                                  for request in picture.requests.values()),
        "a preempted request": any(map(preempted, picture.requests.values())),
        "steps with rows of several requests": max(
            len(set(step.columns["request"])) for step in picture.recording.of("step")) > 3,
    }
    return [what for what, is_there in shown.items() if not is_there]


# --- recording again ------------------------------------------------------------------------------

def say(text: str) -> None:
    print(f"raw-vllm: {text}", flush=True)


def record(server: Any, seed: int, model: Path, folder: Path) -> bool:
    """One try; True if the fixture was written."""
    raw, live = folder / "vllm.raw", folder / "live"
    answers, early = capture_raw(
        server, raw, live, lambda: crowd(server, raw_asks(seed)).start().wait(), poke)
    told = {"abi": abi_digest(), "family": FAMILY, "weights": weights_digest(model),
            "answers": [told_of(answer) for answer in answers],
            "early": [told_of(answer) for answer in early]}
    again = replay_raw(raw, folder / "again")
    picture = Picture(again)
    verdict = verdict_of(picture, answers, early, model, folder)
    say(verdict.line(f"try {seed}"))
    faults = (differences(read(live), again) + verdict.faults
              + [f"it lacks {what}" for what in lacks(picture, verdict)])
    if not faults:
        write(raw, told)
        raw_seeds.keep(raw, "vllm", 96 << 10)
        return True
    kept = BUILD / f"raw-vllm-{seed}"
    shutil.rmtree(kept, ignore_errors=True)
    shutil.copytree(folder, kept)
    (kept / "told.json").write_text(json.dumps(told))
    (kept / "faults").write_text("\n".join(faults) + "\n")
    say(f"not kept, see {kept.relative_to(ROOT)}: " + "; ".join(faults[:3]))
    return False


def main() -> int:
    model = torch_model(EXACT[FAMILY])
    with tempfile.TemporaryDirectory(prefix="raw-vllm-") as name:
        folder = Path(name)
        served = folder / FAMILY  # where it lies is said in the log
        shutil.copytree(model, served)
        with vllm_serving(served, folder / "server.log", SETTING) as server:
            for seed in range(1, TRIES + 1):
                place = folder / str(seed)
                place.mkdir()
                if record(server, seed, model, place):
                    break
            else:
                say("no try was good")
                return 1
        raw_seeds.make(folder)
    size = RAW.stat().st_size + TOLD.stat().st_size
    say(f"wrote {RAW.name} and {TOLD.name} in {RAW.parent.relative_to(ROOT)}, {size} bytes, and "
        f"seeds in {raw_seeds.SEEDS.relative_to(ROOT)}")
    return 0 if size <= FIXTURE_MAX else 1


if __name__ == "__main__":
    sys.exit(main())
