# SPDX-License-Identifier: BSD-2-Clause
"""A server that is started by a hub's id: its model is found in the cache that its environment names."""
from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from lib.client import TEXT, Answer
from lib.exact import await_attached, check_totals, finished
from lib.moeprobe import recording
from lib.server import Server
from lib.torch_client import TorchAsk, perform
from lib.torch_models import EXACT, torch_model
from lib.torch_server import serving

pytestmark = [pytest.mark.root, pytest.mark.transformers]

ID = "some-org/tiny.moe"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def lay_out(home: Path, model: Path) -> None:
    """@model as a download leaves it: files by their hashes, links to them in a snapshot."""
    folder = home / "hub" / ("models--" + ID.replace("/", "--"))
    snapshot = folder / "snapshots" / COMMIT
    for part in (snapshot, folder / "blobs", folder / "refs"):
        part.mkdir(parents=True)
    (folder / "refs" / "main").write_text(COMMIT)
    for file in model.iterdir():
        blob = folder / "blobs" / hashlib.sha256(file.read_bytes()).hexdigest()
        blob.write_bytes(file.read_bytes())
        os.symlink(Path("..", "..", "blobs", blob.name), snapshot / file.name)


def poke(server: Server, number: int) -> Answer:
    return perform(server, TorchAsk(TEXT, f"poke {number}", 2, request_id=f"poke-{number}"))


def test_served_by_id(tmp_path: Path) -> None:
    model, home = torch_model(EXACT["olmoe"]), tmp_path / "home"
    lay_out(home, model)
    with serving(Path(ID), tmp_path / "server.log", HF_HOME=str(home)) as server:
        with recording(server.pid, tmp_path / "r.moeprobe") as record:
            await_attached(server, record, poke=poke)
            answer = perform(server, TorchAsk(TEXT, "by its id", 5, request_id="by-id"))
            server.wait_idle()
            picture = finished(record.stop(), tmp_path / "r.moeprobe")
    check_totals(picture)
    assert not answer.error, answer.error
    said = picture.recording.of("model")[-1]
    assert said.columns["name"] == ID
    assert said.columns["path"] == str(home / "hub" / "models--some-org--tiny.moe" / "snapshots"
                                       / COMMIT)
    assert said.fields["experts"] == EXACT["olmoe"].experts
    assert "by-id" in {request.client_id for request in picture.requests.values()}
