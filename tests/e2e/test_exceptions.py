# SPDX-License-Identifier: BSD-2-Clause
"""C++ exceptions through probed frames. With return probes they abort the target; we have none:
the target catches what it throws, every hit is counted, and nothing is missing."""
from __future__ import annotations

from pathlib import Path

import pytest

from lib.fake_llama import (
    HITS,
    LAYERS,
    await_placed,
    check_sums,
    hits,
    record_whole,
    routed,
    target,
)
from lib.moeprobe import recording, wait_until
from lib.recording import STOPS, read

pytestmark = pytest.mark.root

STEPS = 200


def test_thrown_from_every_probed_function(tmp_path: Path) -> None:
    recorded, done = record_whole(tmp_path / "r.moeprobe", "throw", STEPS, steps=STEPS)
    assert done.code == 0, done.err
    assert STOPS[recorded.one("end").fields["stop"]] == "target_exit"
    assert routed(recorded) == {number: list(range(LAYERS)) for number in range(STEPS)}
    assert hits(recorded) == STEPS * HITS
    assert not recorded.lost and not recorded.of("invalid")
    check_sums(recorded)


def test_attached_and_detached_while_throwing(tmp_path: Path) -> None:
    """Probes come and go under a target that is unwinding all the time."""
    steps = 1500
    with target("throw", steps, 2000) as one:
        for number in range(3):
            file = tmp_path / f"{number}.moeprobe"
            with recording(one.pid, file) as capture:
                await_placed(capture)
                if not number:
                    one.go_on()
                wait_until(lambda: file.stat().st_size > 4000, "no data")
                done = capture.stop()
            recorded = read(file)
            assert done.code == 0, done.err
            check_sums(recorded)
            seen = routed(recorded)
            whole = sorted(seen)[1:-1]
            assert len(whole) > 10
            assert whole == list(range(whole[0], whole[-1] + 1))
            assert all(seen[place] == list(range(LAYERS)) for place in whole)
            assert not recorded.lost
        one.check_ran(steps)
        one.go_on()
        one.check_ended()
