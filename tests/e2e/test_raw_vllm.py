# SPDX-License-Identifier: BSD-2-Clause
"""vLLM without a vLLM: the raw events of a real one (tests/raw, made by `make raw-vllm`) through
assembly, and each decision against transformers in another process. In full runs also a live one,
of which a raw log must give the same stream again."""
from __future__ import annotations

import lzma
from pathlib import Path
from typing import Any

import pytest

from lib import raw_vllm
from lib.exact import check_totals, report
from lib.raw_log import capture_raw, differences, replay
from lib.raw_seeds import SEEDS
from lib.raw_vllm import AGAIN, SETTING, answer_of, lacks, load_told, preempted
from lib.recording import STOPS, Picture, Recording, read
from lib.torch_models import EXACT, torch_model
from lib.vllm_client import crowd
from lib.vllm_judge import poke, verdict_of
from lib.vllm_server import vllm_serving

# --- the one that was recorded --------------------------------------------------------------------


@pytest.fixture(name="told", scope="module")
def fixture_told() -> dict[str, Any]:
    return load_told()


def replayed(raw: Path, out: Path) -> Recording:
    """What is refused is most likely of another build."""
    try:
        return replay(raw, out)
    except RuntimeError as why:
        pytest.fail(f"{why}\n{AGAIN}")


def test_abi_is_that_of_the_recording(told: dict[str, Any]) -> None:
    """By contents: a changed structure may fit the old events by its size and mean something
    else."""
    assert raw_vllm.abi_digest() == told["abi"], f"probe/abi changed: {AGAIN}"


def test_small() -> None:
    assert raw_vllm.RAW.stat().st_size + raw_vllm.TOLD.stat().st_size <= raw_vllm.FIXTURE_MAX


@pytest.mark.parametrize("seed", sorted(SEEDS.iterdir()), ids=lambda seed: str(seed.name))
def test_fuzzer_has_seeds_of_this_build(seed: Path, tmp_path: Path) -> None:
    """Of another one, nothing but their headers would be read."""
    made = replayed(seed, tmp_path / "again")
    assert made.complete and made.of("route")


@pytest.mark.transformers
def test_replayed_exactly(told: dict[str, Any], tmp_path: Path,
                          capsys: pytest.CaptureFixture[str]) -> None:
    """As a live run is judged: every id, every weight, tokens, positions, requests, coverage."""
    model = torch_model(EXACT[told["family"]])
    assert raw_vllm.weights_digest(model) == told["weights"], \
        f"the model made here is not the one recorded (another torch, or no AVX2): {AGAIN}"
    picture = Picture(replayed(raw_vllm.unpack(tmp_path / "raw"), tmp_path / "again"))
    check_totals(picture)
    assert picture.recording.complete
    assert STOPS[picture.recording.one("end").fields["stop"]] == "asked"
    assert [record.columns["role"] for record in picture.recording.of("process")] == [
        "api server", "engine core", "worker"]
    verdict = verdict_of(picture, [answer_of(one) for one in told["answers"]],
                         [answer_of(one) for one in told["early"]], model, tmp_path)
    report(verdict, f"vLLM replayed, {told['family']}", capsys)
    assert lacks(picture, verdict) == []


def test_cut_anywhere(tmp_path: Path) -> None:
    """What is cut off or of another build is refused by name, and what came before is said."""
    data = lzma.decompress(raw_vllm.RAW.read_bytes())
    raw, again = tmp_path / "raw", tmp_path / "again"
    raw.write_bytes(data[:len(data) * 2 // 3])
    with pytest.raises(RuntimeError, match="cut off or damaged"):
        replay(raw, again)
    assert read(again).of("route") and STOPS[read(again).one("end").fields["stop"]] == "failed"
    raw.write_bytes(data[:8] + bytes([data[8] ^ 8]) + data[9:])
    with pytest.raises(RuntimeError, match="of another build"):
        replay(raw, again)


# --- a live one -----------------------------------------------------------------------------------

@pytest.mark.full
@pytest.mark.root
@pytest.mark.vllm
def test_live_and_replayed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Record by record the same, but for what lib.raw_log names; also where events are lost."""
    model = torch_model(EXACT["qwen3_moe"])
    whole, small = tmp_path / "whole", tmp_path / "small"
    with vllm_serving(model, tmp_path / "server.log", SETTING) as server:
        answers, early = capture_raw(
            server, whole.with_suffix(".raw"), whole,
            lambda: crowd(server, raw_vllm.raw_asks(5)).start().wait(), poke)
        capture_raw(
            server, small.with_suffix(".raw"), small,
            lambda: crowd(server, raw_vllm.raw_asks(6)).start().wait(), poke,
            "--ring", "65536", stall=1.0)
        assert server.still_serves()
    for live in (whole, small):
        again = replay(live.with_suffix(".raw"), live.with_suffix(".again"))
        assert differences(read(live), again) == []
    picture = Picture(read(whole.with_suffix(".again")))
    assert any(map(preempted, picture.requests.values())), "nothing was preempted"
    report(verdict_of(picture, answers, early, model, tmp_path), "vLLM, live and replayed", capsys)
    assert read(small).lost, "the ring was large enough: nothing was lost"
