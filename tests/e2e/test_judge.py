# SPDX-License-Identifier: BSD-2-Clause
"""The exactness tests' own tools must be able to fail: a recording made from the oracle passes,
and each planted fault is named."""
from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lib import recording
from lib.client import TEXT, Answer, Ask
from lib.judge import judge
from lib.oracle import Oracle
from lib.recording import ALL_ROWS, HEAD, LAYOUTS, TOKENS, UNKNOWN, UNKNOWN_64, WEIGHTS
from models.make_model import Shape, make_model

TYPE = {layout.name: number for number, layout in LAYOUTS.items()}
PROMPT, GENERATED, CACHED = [72, 101, 108, 108, 111, 33], [65, 66, 67], 2
CLIENT, NAN = "chatcmpl-x", float("nan")


def pack(name: str, values: tuple[Any, ...], *columns: bytes, flags: int = 0) -> bytes:
    fixed = struct.pack("<" + LAYOUTS[TYPE[name]].format, *values)
    padded = b"".join(column + bytes(-len(column) % 8) for column in columns)
    head = HEAD.pack(TYPE[name], HEAD.size + len(fixed), HEAD.size + len(fixed) + len(padded),
                     1000, 1, flags)
    return head + fixed + padded


def write_file(path: Path, records: list[bytes]) -> None:
    header = struct.pack("<8sHHIQII", b"moeprobe", 1, 32, 0x01020304, 0, 0, 0)
    header = header[:24] + struct.pack("<I", zlib.crc32(header)) + header[28:]
    body = b"".join(records)
    block = struct.pack("<IHHIIIIQQ", 0x4B4C424D, 40, 0, len(body), len(body), 0, len(records),
                        1000, 1000)
    crc = zlib.crc32(body, zlib.crc32(block))
    path.write_bytes(header + block[:16] + struct.pack("<I", crc) + block[20:] + body)


def u32(values: Any) -> bytes:
    return np.asarray(list(values), "<u4").tobytes()


Story = dict[str, Any]


def story_of(oracle: Oracle) -> Story:
    """What a perfect capture of one request would say, as plain data."""
    tokens = (PROMPT + GENERATED)[:-1]
    layers, _ = oracle.forward(tokens)
    rows = list(range(CACHED, len(tokens)))
    output = [row for row in range(len(rows)) if rows[row] >= len(PROMPT) - 1]
    return {"tokens": tokens, "positions": rows, "output": output, "slot": 3, "cached": CACHED,
            "client": CLIENT, "prompt": list(PROMPT),
            "routes": [{"row": list(output if number == oracle.layers - 1 else range(len(rows))),
                        "ids": layer.ids.copy(), "weights": layer.weights.copy()}
                       for number, layer in enumerate(layers)],
            "coverage": [[len(tokens), len(rows), CACHED, 0, 0, 0, 0, 0, 0]
                         for _ in layers[:-1]]
            + [[len(tokens), len(output), CACHED, len(rows) - len(output), 0, 0, 0, 0, 0]],
            "lost": 0}


def tell(path: Path, oracle: Oracle, story: Story) -> recording.Picture:
    rows, count = story["positions"], len(story["positions"])
    layer_ids = np.arange(oracle.layers, dtype="<u2").tobytes()
    records = [
        pack("model", (1, oracle.layers, oracle.experts, oracle.k, 0, 260, oracle.layers,
                       UNKNOWN, 0, 0, 0, 0, 0, UNKNOWN, UNKNOWN, NAN, b"", b"", 0, 0, 0, 0),
             layer_ids),
        pack("sequence", (1, 1, story["slot"], 0)),
        pack("request_begin", (1, 1, 1, story["slot"], 7, story["cached"], len(story["prompt"]),
                               len(story["prompt"]), 900, len(story["client"]), 0, 0, 0, NAN, NAN,
                               UNKNOWN, UNKNOWN),
             story["client"].encode(), u32(story["prompt"])),
        pack("step", (1, 900, 950, 1, count, UNKNOWN, UNKNOWN, UNKNOWN_64), u32([1] * count),
             u32([1] * count), u32(rows),
             bytes(int(p >= len(PROMPT)) for p in rows),
             bytes(int(row in story["output"]) for row in range(count)),
             np.asarray([story["tokens"][p] for p in rows], "<i4").tobytes(), flags=TOKENS)]
    for number, route in enumerate(story["routes"]):
        chosen = [rows[row] for row in route["row"]]
        records.append(pack(
            "route", (1, 1, number, len(chosen), oracle.k), u32(route["row"]),
            route["ids"][chosen].astype("u1").tobytes(),
            route["weights"][chosen].astype("<f4").tobytes(), flags=WEIGHTS))
    records.append(pack("request_end", (1, 1, count, len(story["tokens"]), 0, 0, UNKNOWN,
                                          UNKNOWN)))
    for number, (expected, seen, *missing) in enumerate(story["coverage"]):
        records.append(pack("coverage", (1, number, expected, seen, len(missing), 1),
                            np.asarray(missing, "<u8").tobytes()))
    if story["lost"]:
        records.append(pack("loss", (1, UNKNOWN, story["lost"], UNKNOWN_64, UNKNOWN_64, 0)))
    records.append(pack("end", (1, 0, len(records), 1, count, 4, 0, 0, 0)))
    write_file(path, records)
    return recording.Picture(recording.read(path))


@pytest.fixture(name="oracle", scope="module")
def fixture_oracle(tmp_path_factory: pytest.TempPathFactory) -> Oracle:
    return Oracle(make_model(tmp_path_factory.mktemp("judge") / "m.gguf", Shape(layers=3)))


def answer() -> Answer:
    return Answer(Ask(TEXT, "", 3), list(PROMPT), list(GENERATED), 3, CLIENT, 3, 7, CACHED)


def test_perfect_story_passes(tmp_path: Path, oracle: Oracle) -> None:
    verdict = judge(tell(tmp_path / "r", oracle, story_of(oracle)), [answer()], oracle)
    assert verdict.faults == []
    assert (verdict.requests, verdict.decisions, verdict.last_layer) == (1, 2 * 6 + 3, 3)


def swap_order(story: Story) -> None:
    ids, weights = story["routes"][1]["ids"], story["routes"][1]["weights"]
    ids[4, [0, 1]], weights[4, [0, 1]] = ids[4, [1, 0]], weights[4, [1, 0]]


def other_expert(story: Story) -> None:
    ids = story["routes"][0]["ids"]
    ids[3, 3] = next(e for e in range(16) if e not in ids[3])


def drop_row(story: Story) -> None:
    for route in story["routes"]:
        route["row"] = [row for row in route["row"] if row < len(story["positions"]) - 1]
    story["positions"] = story["positions"][:-1]


@pytest.mark.parametrize(("plant", "reason"), [
    (swap_order, "layer 1 position 4: experts"),
    (other_expert, "layer 0 position 3: experts"),
    (lambda s: s["routes"][2]["weights"].__iadd__(1e-4), "weights differ by 1.0e-04"),
    (drop_row, "request 1: rows: recorded 5, not 6"),
    (lambda s: s["routes"][0]["row"].pop(), "rows routed in layer 0"),
    (lambda s: s["routes"][2]["row"].insert(0, 0), "rows routed in layer 2"),
    (lambda s: s["coverage"][1].__setitem__(1, 5), "coverage of layer 1"),
    (lambda s: s["coverage"].pop(), "layers covered"),
    (lambda s: s.update(slot=2), "slot: recorded 2, not 3"),
    (lambda s: s.update(cached=1), "cached prefix: recorded 1, not 2"),
    (lambda s: s.update(client="chatcmpl-y"), "is nobody's"),
    (lambda s: s["tokens"].__setitem__(4, 90), "token 90 at 4, not 111"),
    (lambda s: s.update(lost=2), "lost: recorded 2, not 0"),
])
def test_each_fault_is_named(tmp_path: Path, oracle: Oracle, plant: Callable[[Story], Any],
                             reason: str) -> None:
    story = story_of(oracle)
    plant(story)
    verdict = judge(tell(tmp_path / "r", oracle, story), [answer()], oracle)
    assert any(reason in fault for fault in verdict.faults), verdict.faults


def test_near_tie_is_counted_and_followed(tmp_path: Path, oracle: Oracle) -> None:
    story = story_of(oracle)
    swap_order(story)
    limit = float(oracle.forward(story["tokens"])[0][1].order_gap[4]) * 1.01
    verdict = judge(tell(tmp_path / "r", oracle, story), [answer()], oracle, order_limit=limit)
    assert verdict.faults == []
    assert len(verdict.order_ties) == 1 and not verdict.set_ties


@pytest.mark.parametrize("place", [5, 30, 60, 100, -1])
def test_reader_notices_damage(tmp_path: Path, oracle: Oracle, place: int) -> None:
    tell(tmp_path / "r", oracle, story_of(oracle))
    data = bytearray((tmp_path / "r").read_bytes())
    data[place] ^= 16
    (tmp_path / "r").write_bytes(data)
    with pytest.raises(recording.Damaged):
        recording.read(tmp_path / "r")


def test_reader_notices_the_cut(tmp_path: Path, oracle: Oracle) -> None:
    tell(tmp_path / "r", oracle, story_of(oracle))
    assert recording.read(tmp_path / "r").complete
    (tmp_path / "r").write_bytes((tmp_path / "r").read_bytes()[:-1])
    assert not recording.read(tmp_path / "r").complete


def test_all_rows_and_wide_ids() -> None:
    body = pack("route", (1, 1, 0, 2, 2), np.asarray([300, 2, 3, 4], "<u2").tobytes(),
                flags=ALL_ROWS | recording.IDS_16)
    record = recording.record_of(body)
    assert record is not None
    assert record.columns["ids"].tolist() == [[300, 2], [3, 4]]
    assert record.columns["row"].tolist() == [0, 1]
