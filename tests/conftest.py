# SPDX-License-Identifier: BSD-2-Clause
"""What all tests on real servers share."""
from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from lib import torch_env, vllm_env
from lib.models import DENSE, EXACT, model
from lib.moeprobe import COLLECTOR, MOEPROBE
from lib.server import Server, running
from lib.shown import Shows


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Attaching needs root, servers on PyTorch their environment: without it these tests say so
    instead of failing."""
    for marker, without in {"transformers": torch_env.missing(), "vllm": vllm_env.missing()}.items():
        for item in items:
            if without and item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=without))
    if os.geteuid() == 0:
        return
    for item in items:
        if item.get_closest_marker("root"):
            item.add_marker(pytest.mark.skip(reason="attaching to a process needs root"))


OUTCOME = pytest.StashKey[str]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport,
                                                              pytest.TestReport]:
    """Fixtures can see what became of their test."""
    report = yield
    if report.when == "call":
        item.stash[OUTCOME] = report.outcome
    return report


@pytest.fixture(name="shows")
def fixture_shows(request: pytest.FixtureRequest) -> Iterator[Shows]:
    """Takes down what the test shows of an engine, for docs/engines.md."""
    shows = Shows(request.node.nodeid)
    yield shows
    shows.keep(request.node.stash.get(OUTCOME, ""))


@pytest.fixture(name="programs", scope="session", autouse=True)
def fixture_programs(request: pytest.FixtureRequest) -> None:
    """Tests that attach say at once what is not built."""
    if any(item.get_closest_marker("root") for item in request.session.items):
        for program in (MOEPROBE, COLLECTOR):
            if not program.exists():
                pytest.exit(f"{program} is not built: run make", returncode=1)


@pytest.fixture(name="olmoe_server")
def fixture_olmoe_server(tmp_path: Path) -> Iterator[Server]:
    """A server of its own for the test, on the small OLMoE with settings of an exact run."""
    with running(model(EXACT["olmoe"]), tmp_path / "server.log") as server:
        yield server


@pytest.fixture(name="shared_server", scope="module")
def fixture_shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for the tests of a module that leave it as it was."""
    log = tmp_path_factory.mktemp("server") / "server.log"
    with running(model(EXACT["olmoe"]), log) as server:
        yield server


@pytest.fixture(name="dense_server")
def fixture_dense_server(tmp_path: Path) -> Iterator[Server]:
    with running(model(DENSE), tmp_path / "server.log") as server:
        yield server
