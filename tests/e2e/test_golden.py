# SPDX-License-Identifier: BSD-2-Clause
"""Recordings of every released version are read for ever: tests/golden/v*/ hold some with every
record and field, and what was read of them when they were made. Those of this version are made
here too, and the program and the second reader must agree on them."""
from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from lib import golden, recording
from lib.moeprobe import BUILD, ROOT

KEPT = sorted((ROOT / "tests/golden").glob("v*/*.moeprobe"))
UNKNOWN = (recording.UNKNOWN, recording.UNKNOWN_64)
# Types of `moeprobe dump` that have another name, keys that have another name or meaning.
OBJECT = {"request_begin": "request", "request_end": "request"}
KEY = {"vocabulary": "vocab", "rows": "rows_seen"}
ENUMERATED = {"cause", "certainty", "ending", "finish", "gate", "origin", "phase", "reason",
              "status", "stop"}


@pytest.fixture(name="fresh", scope="module")
def fixture_fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("golden")
    golden.write(BUILD, folder)
    return folder


def disagreements(record: dict[str, Any], shown: dict[str, Any]) -> list[str]:
    """Where `dump` says something else than the second reader."""
    faults = []
    kind = OBJECT.get(record["type"], record["type"])
    for name, value in (record["fields"] | record["columns"]).items():
        key = KEY.get(name, name) if kind in ("model", "request") else name
        if key not in shown or key in ("key", "model_key", "labels") or key in ENUMERATED:
            continue
        said = shown[key]
        if isinstance(value, list) or isinstance(said, (list, bool, dict)):
            continue
        empty = value in UNKNOWN or value == "" or (isinstance(value, str)
                                                    and not value.strip("0"))
        if isinstance(said, float) and math.isclose(said, value, rel_tol=1e-7):
            continue
        if said != (None if empty else value) and not (said is None and value == 0):
            faults.append(f"{kind}.{key}: {said} instead of {value}")
    return faults


@pytest.mark.parametrize("detail", golden.DETAILS)
def test_readers_agree(fresh: Path, detail: str) -> None:
    """Record by record, field by field; and what has columns by its columns."""
    file = fresh / f"{detail}.moeprobe"
    assert file.stat().st_size < 32 << 10
    records, objects = golden.records(file), golden.dump(BUILD, file)
    assert len(records) == len(objects)
    for record, shown in zip(records, objects, strict=True):
        assert shown["type"] == OBJECT.get(record["type"], record["type"])
        assert not disagreements(record, shown)
        columns = record["columns"]
        if record["type"] == "route":
            assert shown["rows"] == columns["row"]
            assert shown["experts"] == [
                [None if expert == recording.NO_EXPERT else expert for expert in entry]
                for entry in columns["ids"]]
            assert (shown["weights"] or []) == columns["weights"]
        if record["type"] == "step":
            assert [row["position"] for row in shown["rows"]] == columns["position"]
            assert [row["finished"] for row in shown["rows"]] == [
                bool(flags & recording.FINISHED) for flags in columns["row_flags"]]
        if record["type"] == "counts":
            assert shown["count"] == columns["count"] and (shown["gate"] or []) == columns["gate"]
        if record["type"] == "coverage":
            assert sum(shown["missing"].values()) == sum(columns["missing"])


def test_every_type_is_there(fresh: Path) -> None:
    """And every detail holds what it promises."""
    types = {detail: {record["type"] for record in golden.records(fresh / f"{detail}.moeprobe")}
             for detail in golden.DETAILS}
    everything = {layout.name for layout in recording.LAYOUTS.values()}
    assert types["tokens"] == types["routes"] == everything - {"counts"}
    assert types["requests"] == everything - {"step", "route"}


@pytest.mark.parametrize("detail", golden.DETAILS)
def test_a_later_writer(fresh: Path, tmp_path: Path, detail: str) -> None:
    """What it adds is passed over by both readers."""
    file, later = fresh / f"{detail}.moeprobe", tmp_path / f"{detail}.moeprobe"
    later.write_bytes(golden.grown(file.read_bytes()))
    plain, grown = golden.records(file), golden.records(later)
    for record in grown:
        record["flags"] &= ~(1 << 30)
    assert plain == grown
    assert golden.dump(BUILD, file) == golden.dump(BUILD, later)
    assert not golden.missing({**golden.report(BUILD, file), "capture": {}},
                              golden.report(BUILD, later))


@pytest.mark.parametrize("detail", golden.DETAILS)
def test_same_picture_of_requests(fresh: Path, detail: str) -> None:
    """Late bindings and names, at every detail."""
    requests = golden.report(BUILD, fresh / f"{detail}.moeprobe")["requests"]
    assert [(one["request"], one["rows_prefill"], one["rows_decode"]) for one in requests] == [
        (61, 2, 0), (62, 0, 1)]
    assert requests[0]["client_id"] == "chat-61b" and requests[0]["labels"] == "user=ann?? task=b"


def test_kept() -> None:
    """Nothing that was ever read of them is read otherwise or not at all."""
    header = (ROOT / "collector/trace/records.h").read_text()
    version = int(re.findall(r"#define TRACE_VERSION (\d+)", header)[0])
    assert {file.parent.name for file in KEPT} == {f"v{n}" for n in range(1, version + 1)}
    for file in KEPT:
        want = json.loads(file.with_suffix(".json").read_text())
        assert not golden.missing(want, golden.expectation(BUILD, file)), file
