# SPDX-License-Identifier: BSD-2-Clause
"""A copy of the engine's library without the names that a probe needs, which still runs."""
from __future__ import annotations

import importlib.util
import shutil
import subprocess
from pathlib import Path


def twin(name: bytes) -> bytes:
    """Another name of the same length with the same GNU hash, so that the dynamic linker finds
    it where the old one was: hash = hash * 33 + byte, so +1 here is -33 at the next byte."""
    for place in range(len(name) - 1, 0, -1):
        changed = name[place - 1] + 1, name[place] - 33
        if chr(changed[0]).isalnum() and chr(changed[1]).isalnum():
            return name[:place - 1] + bytes(changed) + name[place + 1:]
    raise ValueError(f"no twin of {name!r}")


def without_names(directory: Path, *names: bytes) -> Path:
    """Copy the engine's package below @directory, strip it and rename @names in its dynamic
    symbols. What to give the server as `library`."""
    spec = importlib.util.find_spec("xllamacpp")
    assert spec is not None and spec.origin is not None
    target = directory / "xllamacpp"
    shutil.copytree(Path(spec.origin).parent, target,
                    ignore=shutil.ignore_patterns("__pycache__"))
    library = next(target.glob("*.abi3.so"))
    subprocess.run(["strip", "--strip-all", str(library)], check=True)
    content = library.read_bytes()
    for name in names:
        assert content.count(b"\0" + name + b"\0") >= 1, f"{name!r} is not in the library"
        content = content.replace(b"\0" + name + b"\0", b"\0" + twin(name) + b"\0")
    library.write_bytes(content)
    return directory
