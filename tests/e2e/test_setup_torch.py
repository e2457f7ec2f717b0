# SPDX-License-Identifier: BSD-2-Clause
"""Which build of torch is installed, and what is said where it is not."""
from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from lib.moeprobe import ROOT

sys.path.insert(0, str(ROOT / "scripts"))
import setup_torch  # noqa: E402

TORCH = "torch==2.13.0"
REQUIREMENTS = ROOT / "tests" / "requirements-transformers.txt"


def offer(wheel: str, *requirements: str) -> dict[str, Any]:
    return {"download_info": {"url": f"file:///wheels/{wheel}"},
            "metadata": {"requires_dist": list(requirements)}}


@pytest.mark.parametrize(("found", "said"), [
    (offer("torch-2.13.0%2Bcpu-cp311.whl", "filelock", "triton==3 ; extra == 'optional'"), ""),
    (offer("torch-2.13.0-cp311.whl", "filelock", "nvidia-cublas-cu13==13.1; platform_system == 'Linux'",
           "triton==3.5.1; platform_system == 'Linux'"),
     "pip would download torch-2.13.0-cp311.whl with nvidia-cublas-cu13==13.1, triton==3.5.1"),
    (None, "pip finds no torch==2.13.0 to install"),
])
def test_only_a_build_for_the_processor(monkeypatch: pytest.MonkeyPatch,
                                        found: dict[str, Any] | None, said: str) -> None:
    monkeypatch.setattr(setup_torch, "offered", lambda torch: found)
    assert setup_torch.why_not(TORCH) == (said and "no CPU build of torch can be had: " + said)


def test_reason_is_kept_for_the_tests(monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
                                      capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "environment"
    monkeypatch.setattr(setup_torch, "offered", lambda torch: None)
    monkeypatch.setattr(sys, "argv", ["setup_torch.py", str(folder), str(REQUIREMENTS)])
    assert setup_torch.main() == 0
    reason = (folder / ".unavailable").read_text().strip()
    assert reason.endswith("pip finds no torch==2.13.0 to install")
    assert reason in capsys.readouterr().out
    assert not (folder / ".requirements").exists()


def test_everything_is_pinned() -> None:
    """Without local version suffixes, which not every index has."""
    lines = [line for line in REQUIREMENTS.read_text().splitlines() if not line.startswith("#")]
    assert setup_torch.pinned_torch(REQUIREMENTS) == TORCH
    assert all(line.count("==") == 1 and "+" not in line for line in lines)
