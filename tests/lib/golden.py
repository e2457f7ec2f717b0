# SPDX-License-Identifier: BSD-2-Clause
"""Golden recordings: every record and field, by the writer of one version, with what was read of
them then. Run as a program (make golden) it writes them; tests/e2e/test_golden.py reads them."""
from __future__ import annotations

import json
import math
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib import recording  # noqa: E402

DETAILS = ("requests", "routes", "tokens")
BLOCK, HEAD = struct.Struct("<IHHIIIIQQ"), recording.HEAD


def write(build: Path, folder: Path) -> None:
    """DETAIL.moeprobe for every detail, by the programs in @build."""
    subprocess.run([str(build / "tests/golden/write_golden"), str(folder)], check=True)


def plain(value: Any) -> Any:
    """As JSON has it: not-a-number is null, bytes are hexadecimal."""
    if isinstance(value, bytes):
        return value.hex()
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, list):
        return [plain(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def records(file: Path) -> list[dict[str, Any]]:
    """What the second reader, which is written from the page alone, makes of @file."""
    return [{"type": one.type, "time_ns": one.time_ns, "source": one.source, "flags": one.flags,
             "fields": {name: plain(value) for name, value in one.fields.items()},
             "columns": {name: plain(value) for name, value in one.columns.items()}}
            for one in recording.read(file).records]


def shown(build: Path, *arguments: str) -> str:
    """What moeprobe prints."""
    return subprocess.run([str(build / "moeprobe"), *arguments], check=True, text=True,
                          capture_output=True).stdout


def dump(build: Path, file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in shown(build, "dump", "--json", str(file)).splitlines()]


def report(build: Path, file: Path) -> dict[str, Any]:
    """What was seen: other tables are lists of causes and remedies, which grow."""
    made = json.loads(shown(build, "report", "--json", str(file)))
    made["capture"]["source"] = file.name
    return {table: made[table] for table in ("capture", "models", "layers", "requests")}


def expectation(build: Path, file: Path) -> dict[str, Any]:
    return {"records": records(file), "dump": dump(build, file), "report": report(build, file)}


def missing(want: Any, got: Any, where: str = "") -> list[str]:
    """Where @got lacks or contradicts what is in @want. Keys may be added, lists may not grow."""
    if isinstance(want, dict) and isinstance(got, dict):
        return [fault for key, value in want.items()
                for fault in (missing(value, got[key], f"{where}.{key}") if key in got
                              else [f"{where}.{key} is not there"])]
    if isinstance(want, list) and isinstance(got, list) and len(want) == len(got):
        return [fault for number, pair in enumerate(zip(want, got, strict=True))
                for fault in missing(*pair, f"{where}[{number}]")]
    return [] if want == got else [f"{where}: {got} instead of {want}"]


def grown(data: bytes) -> bytes:
    """The same stream by a later writer: longer fixed parts, more columns, unknown types. All
    blocks are written without compression."""
    place = recording.check_file_header(data)
    out = data[:place]
    while place < len(data):
        _, size, codec, stored, decoded, _, _, first, last = BLOCK.unpack_from(data, place)
        body = data[place + size:place + size + stored]
        if codec:
            body = recording.zstandard.ZstdDecompressor().decompress(body, decoded)
        place += size + stored
        made, at, number = b"", 0, 0
        while at < len(body):
            kind, fixed, length, when, source, flags = HEAD.unpack_from(body, at)
            made += HEAD.pack(kind, fixed + 16, length + 40, when, source, flags | 1 << 30)
            made += body[at + HEAD.size:at + fixed] + b"\xa5" * 16
            made += body[at + fixed:at + length] + b"\xa5" * 24
            made += HEAD.pack(0x7001, 24, 32, when, source, 0) + b"\xa5" * 8
            at, number = at + length, number + 2
        head = BLOCK.pack(0x4B4C424D, BLOCK.size, 0, len(made), len(made), 0, number, first, last)
        crc = zlib.crc32(made, zlib.crc32(head))
        out += head[:16] + struct.pack("<I", crc) + head[20:] + made
    return out


def main() -> int:
    build, folder = Path(sys.argv[1]), Path(sys.argv[2])
    if any(folder.iterdir()):
        sys.exit(f"{folder}: golden recordings are made once, and there are some already")
    write(build, folder)
    for detail in DETAILS:
        file = folder / f"{detail}.moeprobe"
        text = json.dumps(expectation(build, file), separators=(",", ":"))
        file.with_suffix(".json").write_text(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
