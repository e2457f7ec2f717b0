# SPDX-License-Identifier: BSD-2-Clause
"""The table of docs/engines.md: from what is promised (lib.abilities) and what tests showed
(engines.json). Run by `make engines-doc`: takes new results over and writes the table."""
from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from lib.abilities import (ABILITIES, ENGINES, PROMISED, STATES, UNVERIFIED,  # noqa: E402
                           Cell)
from lib.moeprobe import ROOT  # noqa: E402
from lib.shown import FAILED, RESULTS  # noqa: E402

STORE = ROOT / "tests" / "engines.json"
DOCUMENT = ROOT / "docs" / "engines.md"
BEGIN, END = "<!-- written by make engines-doc -->", "<!-- until here -->"

Result = dict[str, Any]


def function_of(test: str) -> str:
    """The node id below tests/e2e, without parameters."""
    return test.removeprefix("tests/").removeprefix("e2e/").split("[")[0]


def results_of(engine: str, cell: Cell, store: list[Result]) -> list[Result]:
    return [one for one in store if one["engine"] == engine
            and function_of(one["test"]) == cell.test]


def keeps(result: Result, ability: str, cell: Cell) -> bool:
    """Whether it shows at least what the cell says."""
    state = result["shown"].get(ability, {}).get("state")
    return state in STATES and STATES.index(state) <= STATES.index(cell.state)


def faults(store: list[Result], tests: set[str]) -> list[str]:
    """What is promised and not shown. @tests: functions that exist."""
    found = [f"{one['test']}: no such test" for one in store
             if function_of(one["test"]) not in tests]
    for engine, cells in PROMISED.items():
        if engine not in ENGINES:
            found.append(f"{engine}: no such row")
        for ability, cell in cells.items():
            name = f"{engine}, {ability}"
            if ability not in ABILITIES:
                found.append(f"{name}: no such column")
            if cell.test not in tests:
                found.append(f"{name}: no test {cell.test}")
            results = results_of(engine, cell, store)
            if not any(keeps(one, ability, cell) for one in results):
                found.append(f"{name}: no result of {cell.test} shows it {cell.state}")
            found += [f"{name}: {one['test']} failed on {one['date']}" for one in store
                      if one["engine"] == FAILED and function_of(one["test"]) == cell.test]
            found += [f"{name}: {one['test']} shows it {one['shown'][ability]['state']}, not "
                      f"{cell.state}" for one in results
                      if ability in one["shown"] and not keeps(one, ability, cell)]
    return found


def letter(number: int) -> str:
    return chr(ord("a") + number)


def row(engine: str, marks: dict[tuple[str, str], str]) -> str:
    cells = [f"{cell.state} ({marks[engine, cell.test]})" if cell else UNVERIFIED
             for cell in (PROMISED.get(engine, {}).get(ability) for ability in ABILITIES)]
    return f"| {' | '.join([engine, *cells])} |"


def proof(mark: str, engine: str, test: str, store: list[Result]) -> str:
    """What a test showed: the date of its oldest result, and how much there was."""
    own = [one for one in store if one["engine"] == engine and function_of(one["test"]) == test]
    dates = sorted(one["date"] for one in own)
    decisions = sum(one["shown"]["expert ids"]["count"] for one in own)
    requests = sum(one["shown"]["begin and end"]["count"] for one in own)
    return (f"| {mark} | `tests/e2e/{test}` | {dates[0] if dates else ''} | {len(own)} | "
            f"{decisions:,} | {requests:,} |")


def table(store: list[Result]) -> str:
    pairs = dict.fromkeys((engine, cell.test) for engine in ENGINES
                          for cell in PROMISED.get(engine, {}).values())
    marks = {pair: letter(number) for number, pair in enumerate(pairs)}
    lines = [f"| engine | {' | '.join(ABILITIES)} |", "|---" * (1 + len(ABILITIES)) + "|",
             *(row(engine, marks) for engine in ENGINES), "",
             "| | shown by | on | runs | decisions | requests |", "|---" * 6 + "|",
             *(proof(mark, *pair, store) for pair, mark in marks.items())]
    return "\n".join(lines)


def parts(text: str) -> tuple[str, str, str]:
    """The document before, in and behind the table."""
    before, _, rest = text.partition(BEGIN + "\n")
    written, _, behind = rest.partition(END)
    return before + BEGIN + "\n", written, END + behind


def stored() -> list[Result]:
    return list(json.loads(STORE.read_text())) if STORE.exists() else []


def merged(store: list[Result], new: list[Result]) -> list[Result]:
    """Each test's last word."""
    again = {one["test"] for one in new}
    return sorted([one for one in store if one["test"] not in again] + new,
                  key=lambda one: (one["test"], one["engine"]))


def main() -> None:
    new = [one for file in sorted(RESULTS.glob("*.json")) for one in json.loads(file.read_text())]
    store = merged(stored(), new)
    STORE.write_text("[\n" + ",\n".join(json.dumps(one) for one in store) + "\n]\n")
    before, _, behind = parts(DOCUMENT.read_text())
    DOCUMENT.write_text(before + table(store) + "\n" + behind)
    print(f"{len(new)} results taken over, {len(store)} in all")


if __name__ == "__main__":
    main()
