# SPDX-License-Identifier: BSD-2-Clause
"""Copies of the engine's library with other names in them, which still run."""
from __future__ import annotations

import importlib.util
import shutil
import struct
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


def copy_of_engine(directory: Path) -> Path:
    """The engine's library in a copy of its package below @directory."""
    spec = importlib.util.find_spec("xllamacpp")
    assert spec is not None and spec.origin is not None
    target = directory / "xllamacpp"
    shutil.copytree(Path(spec.origin).parent, target,
                    ignore=shutil.ignore_patterns("__pycache__"))
    return next(target.glob("*.abi3.so"))


def without_names(directory: Path, *names: bytes) -> Path:
    """Copy the engine's package below @directory, strip it and rename @names in its dynamic
    symbols. What to give the server as `library`."""
    library = copy_of_engine(directory)
    subprocess.run(["strip", "--strip-all", str(library)], check=True)
    content = library.read_bytes()
    for name in names:
        assert content.count(b"\0" + name + b"\0") >= 1, f"{name!r} is not in the library"
        content = content.replace(b"\0" + name + b"\0", b"\0" + twin(name) + b"\0")
    library.write_bytes(content)
    return directory


def address_of(library: Path, symbol: str) -> tuple[int, int]:
    """The addresses of a dynamic symbol and of .text."""
    names = subprocess.run(["nm", "-D", "--defined-only", str(library)], capture_output=True,
                           text=True, check=True).stdout
    address = next(int(line.split()[0], 16) for line in names.splitlines()
                   if line.endswith(" " + symbol))
    sections = subprocess.run(["objdump", "-h", "-j", ".text", str(library)],
                              capture_output=True, text=True, check=True).stdout
    fields = next(line.split() for line in sections.splitlines() if " .text " in line)
    return address, int(fields[3], 16)


def with_site_name(directory: Path, symbol: str, offset: int, name: str) -> Path:
    """A copy of the engine whose symbol table, which only tools read, also names a place inside
    a function: bpftrace as packaged takes no other way to put a probe there."""
    library = copy_of_engine(directory)
    address, text = address_of(library, symbol)
    place = address + offset
    subprocess.run(["objcopy", "--add-symbol",
                    f"{name}=.text:{place - text},function,global", str(library)], check=True)
    content = library.read_bytes()
    entry = struct.pack("<QQ", place, 0)  # st_value, st_size
    assert content.count(entry) == 1
    library.write_bytes(content.replace(entry, struct.pack("<QQ", place, 64)))
    return directory
