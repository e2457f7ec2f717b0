# SPDX-License-Identifier: BSD-2-Clause
"""docs/engines.md promises what tests have shown, and nothing else."""
from __future__ import annotations

import copy
import re
import subprocess
import sys
from typing import Any

import pytest

from lib import engines_doc
from lib.abilities import EXACT, LLAMA, PROMISED
from lib.engines_doc import DOCUMENT, faults, function_of, merged, parts, stored, table
from lib.moeprobe import ROOT
from lib.shown import FAILED

AGAIN = "differs from what tests showed: make engines-doc"


@pytest.fixture(name="tests", scope="module")
def fixture_tests() -> set[str]:
    """Every test function that exists."""
    nodes = subprocess.run([sys.executable, "-m", "pytest", "--collect-only", "-q",
                            "-o", "addopts=", "-p", "no:cacheprovider", "e2e"],
                           cwd=ROOT / "tests", check=True, capture_output=True, text=True).stdout
    return {function_of(line) for line in nodes.splitlines() if "::" in line}


def test_document_is_what_was_shown(tests: set[str]) -> None:
    assert faults(stored(), tests) == []
    _, written, behind = parts(DOCUMENT.read_text())
    assert behind, "the table's marks are gone"
    assert written == table(stored()) + "\n", AGAIN


def test_every_date_is_one() -> None:
    assert stored()
    for one in stored():
        assert re.fullmatch(r"20\d\d-\d\d-\d\d", one["date"]), one


def spoil_test(store: list[dict[str, Any]]) -> None:
    store[0]["test"] = "e2e/test_nothing.py::test_nothing"


def spoil_state(store: list[dict[str, Any]]) -> None:
    for one in store:
        if one["engine"] == LLAMA:
            one["shown"]["expert ids"]["state"] = "inferred"


def spoil_ability(store: list[dict[str, Any]]) -> None:
    for one in store:
        one["shown"].pop("tokens", None)


def spoil_outcome(store: list[dict[str, Any]]) -> None:
    store.append(store[0] | {"engine": FAILED, "shown": {}})


@pytest.mark.parametrize("spoil", [spoil_test, spoil_state, spoil_ability, spoil_outcome])
def test_a_promise_that_nothing_shows_is_found(spoil: Any, tests: set[str]) -> None:
    store = copy.deepcopy(stored())
    spoil(store)
    assert faults(store, tests)


def test_the_last_word_counts() -> None:
    one = {"test": "t", "engine": "e", "date": "2026-01-01", "shown": {}}
    later = one | {"date": "2026-02-01"}
    assert merged([one], [later]) == [later]
    assert merged([later], []) == [later]
    failure = later | {"engine": FAILED}
    assert merged([one], [failure]) == [failure]
    assert merged([failure], [later]) == [later]


def test_marks_are_enough() -> None:
    """A letter for each proof."""
    proofs = {(engine, cell.test) for engine, cells in PROMISED.items()
              for cell in cells.values()}
    assert len(proofs) <= 26
    assert engines_doc.letter(len(proofs) - 1) <= "z" and EXACT in table(stored())
