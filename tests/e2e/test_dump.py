# SPDX-License-Identifier: BSD-2-Clause
"""What `dump --json` and `report --json` say about a recording of a real server, against the
tests' own reader."""
from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lib.exact import await_attached, capture
from lib.moeprobe import moeprobe, recording
from lib.recording import UNKNOWN, Recording, read
from lib.server import Server

pytestmark = pytest.mark.root


@pytest.fixture(name="file", scope="module")
def fixture_file(shared_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("dump") / "r.moeprobe"
    capture(shared_server, path, seed=20)
    return path


def dumped(file: Path) -> list[dict[str, Any]]:
    done = moeprobe("dump", "--json", file)
    assert done.code == 0, done.err
    return [json.loads(line) for line in done.out.splitlines()]


def of(objects: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [one for one in objects if one["type"] == kind]


def check_routes(objects: list[dict[str, Any]], recorded: Recording) -> None:
    routes = of(objects, "route")
    assert len(routes) == len(recorded.of("route"))
    for one, record in zip(routes, recorded.of("route"), strict=True):
        assert (one["step"], one["layer"]) == (record.fields["step"], record.fields["layer"])
        assert one["rows"] == record.columns["row"].tolist()
        assert one["experts"] == record.columns["ids"].tolist()
        found = np.asarray(one["weights"], dtype=np.float32)
        assert np.array_equal(found, record.columns["weights"])


def test_dump_says_what_the_file_says(file: Path) -> None:
    objects, recorded = dumped(file), read(file)
    assert len(objects) == len(recorded.records)
    assert objects[-1]["type"] == "end" and objects[-1]["stop"] == "asked"
    check_routes(objects, recorded)
    for one, record in zip(of(objects, "step"), recorded.of("step"), strict=True):
        assert [row["position"] for row in one["rows"]] == record.columns["position"].tolist()
        assert [row["token"] for row in one["rows"]] == record.columns["token"].tolist()
        assert [row["request"] for row in one["rows"]] == [
            None if number == UNKNOWN else number for number in record.columns["request"].tolist()]
    begins = [one for one in of(objects, "request") if one["event"] == "begin"]
    for one, record in zip(begins, recorded.of("request_begin"), strict=True):
        assert one["client_id"] in (record.columns["client_id"], None)
        assert one["slot"] == record.fields["slot"]
    for one in of(objects, "coverage"):
        assert one["expected"] == one["seen"] + sum(one["missing"].values())


def test_report_counts_what_the_file_holds(file: Path) -> None:
    done = moeprobe("report", "--json", file)
    assert done.code == 0, done.err
    assert str(read(file).one("end").fields["decisions"]) in done.out
    text = moeprobe("report", file)
    assert text.code == 0 and "olmoe" in text.out


CONTRACT = Path(__file__).parents[2] / "docs" / "report-json.md"


def promised(chapter: str) -> dict[str, set[str]]:
    """Key -> keys below it, as the page lists them."""
    text = CONTRACT.read_text().split(f"\n## {chapter}\n")[1].split("\n## ")[0]
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")][2:]
    return {key.strip(): set(re.findall(r"`(\w+)`", below)) for key, _, below in rows}


def check_contract(found: dict[str, Any], chapter: str) -> None:
    contract = promised(chapter)
    assert set(found) == set(contract)
    for key, below in contract.items():
        value = found[key]
        for one in value if isinstance(value, list) else [value]:
            assert not below or set(one) == below, (key, one)


@pytest.mark.parametrize("detail", ["requests", "tokens"])
def test_report_keeps_its_contract(shared_server: Server, tmp_path: Path, detail: str) -> None:
    file = tmp_path / "r.moeprobe"
    with recording(shared_server.pid, file, detail=detail) as record:
        await_attached(shared_server, record)
        assert record.stop().code == 0
    found = json.loads(moeprobe("report", "--json", file).out)
    check_contract(found, "report")
    assert all(found[key] for key in ("models", "layers", "requests", "coverage", "loss"))


def test_doctor_keeps_its_contract(shared_server: Server) -> None:
    found = json.loads(moeprobe("doctor", "--json", shared_server.pid).out)
    check_contract(found, "doctor")
    cost, = (one for one in found["findings"] if one["name"] == "predicted cost")
    hit, = (one for one in found["findings"] if one["name"] == "emulated hit")
    assert cost["hits"] > 0 and cost["ns"] > 0 and hit["ns"] > 0
    assert f"{cost['hits']:.0f} hits" in cost["value"] and f"{hit['ns'] / 1000:.2f}" in hit["value"]
    assert {one["name"] for one in found["findings"] if one["hits"] is not None} == {
        "predicted cost"}


def test_file_is_private(file: Path) -> None:
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("detail", ["requests", "routes"])
def test_detail_decides_what_is_kept(shared_server: Server, tmp_path: Path,
                                     detail: str) -> None:
    file = tmp_path / "r.moeprobe"
    with recording(shared_server.pid, file, detail=detail) as record:
        await_attached(shared_server, record)
        assert shared_server.still_serves()
        shared_server.wait_idle()
        assert record.stop().code == 0
    kept = read(file)
    assert bool(kept.of("route")) == bool(kept.of("step")) == (detail == "routes")
    assert bool(kept.of("counts")) == (detail == "requests")
    assert all(not len(step.columns["token"]) for step in kept.of("step"))
    assert all(not len(begin.columns["tokens"]) for begin in kept.of("request_begin"))
    for counts in kept.of("counts"):
        fields = counts.fields
        assert int(counts.columns["count"].sum()) == fields["rows"] * fields["k"]
