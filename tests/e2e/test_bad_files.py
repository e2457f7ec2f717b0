# SPDX-License-Identifier: BSD-2-Clause
"""Recordings that are cut or damaged, or no recordings (exit code 1), or newer ones (5): a clear
line; whatever is whole is shown."""
from __future__ import annotations

import json
import struct
import subprocess
import time
import zlib
from pathlib import Path

import pytest

from lib.exact import await_attached
from lib.moeprobe import MOEPROBE, Finished, moeprobe, recording
from lib.recording import read
from lib.server import Server

pytestmark = pytest.mark.root


@pytest.fixture(name="good", scope="module")
def fixture_good(shared_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("good") / "r.moeprobe"
    with recording(shared_server.pid, path) as one:
        await_attached(shared_server, one)
        for _ in range(3):
            assert shared_server.still_serves()
            time.sleep(0.6)  # a block is closed every half second
        shared_server.wait_idle()
        assert one.stop().code == 0
    assert read(path).complete
    return path


def one_line(done: Finished) -> str:
    lines = done.error_lines()
    assert lines and lines[0].startswith("moeprobe"), done
    assert len(lines) <= 2, done.err
    return lines[0]


@pytest.mark.parametrize("command", ["report", "dump", "top"])
def test_foreign_files(tmp_path: Path, command: str) -> None:
    empty, elf = tmp_path / "empty", Path("/bin/true")
    empty.write_bytes(b"")
    for file, why in ((empty, "it is not a moeprobe recording: it is empty"),
                      (elf, "it is not a moeprobe recording"), (tmp_path, "Is a directory"),
                      (tmp_path / "missing", "No such file")):
        done = moeprobe(command, file)
        assert done.code == 1, done
        assert str(file) in one_line(done) and why in one_line(done)


@pytest.mark.parametrize("command", ["report", "dump", "top"])
def test_newer_format(tmp_path: Path, good: Path, command: str) -> None:
    newer = tmp_path / "newer"
    newer.write_bytes(good.read_bytes()[:8] + struct.pack("<H", 7) + good.read_bytes()[10:])
    done = moeprobe(command, newer)
    assert done.code == 5 and not done.out, done
    assert "newer moeprobe: format version 7, this one reads up to 1" in one_line(done)
    assert "try: update moeprobe" in done.err


@pytest.mark.parametrize("command", ["report", "dump"])
def test_cut_file(tmp_path: Path, good: Path, command: str) -> None:
    """Cut at many places: never a crash; what is whole is shown, and that it is cut is said."""
    data, cut = good.read_bytes(), tmp_path / "cut"
    for size in sorted({31, 32, 33, 71, 72, 73, len(data) // 2, len(data) - 1}):
        cut.write_bytes(data[:size])
        done = moeprobe(command, cut)
        assert done.code in (0, 1), done
        assert done.code == 1 or done.out or size < 100, (size, done)
        said = (done.out + done.err).lower()
        assert any(word in said for word in ("cut", "incomplete", "truncat", "ends")), (size, done)


def block(*records: bytes) -> bytes:
    """A block of @records, as docs/trace-format.md says."""
    stored = b"".join(records)
    times = [struct.unpack_from("<Q", one, 8)[0] for one in records]
    head = struct.pack("<IHHIIIIQQ", 0x4B4C424D, 40, 0, len(stored), len(stored), 0, len(records),
                       min(times), max(times))
    crc = zlib.crc32(stored, zlib.crc32(head))
    return head[:16] + struct.pack("<I", crc) + head[20:] + stored


def test_records_of_a_later_version(tmp_path: Path, good: Path) -> None:
    """Their number stands beside the result, which is otherwise the same."""
    when = read(good).records[-1].time_ns
    later = [struct.pack("<HHIQII", kind, 24, 24, when, 1, 0) for kind in (4711, 65535, 4711)]
    file = tmp_path / "later"
    file.write_bytes(good.read_bytes() + block(*later))
    skipped = "skipped: 3 records of 2 types that this version does not know"
    report = moeprobe("report", file)
    assert report.code == 0 and not report.err, report
    assert skipped in report.out and "skipped" not in moeprobe("report", good).out
    capture = json.loads(moeprobe("report", "--json", file).out)["capture"]
    assert (capture["records_skipped"], capture["types_skipped"]) == (3, 2)
    before = json.loads(moeprobe("report", "--json", good).out)["capture"]
    assert (before["records_skipped"], before["types_skipped"]) == (0, 0)
    assert capture["decisions"] == before["decisions"] > 0
    dump = moeprobe("dump", file)
    assert dump.code == 0 and skipped in one_line(dump)
    assert dump.out == moeprobe("dump", good).out
    assert skipped in moeprobe("top", file).out


def blocks_of(data: bytes) -> list[tuple[int, int]]:
    """Where each block begins and ends."""
    found, at = [], 32
    while at < len(data):
        header, stored = struct.unpack_from("<4xHxxI", data, at)
        found.append((at, at + header + stored))
        at += header + stored
    return found


def test_damaged_block(tmp_path: Path, good: Path) -> None:
    """It costs itself, and everything says that it is missing."""
    data, bad = bytearray(good.read_bytes()), tmp_path / "bad"
    begin, end = blocks_of(data)[-2]
    data[end - 9] ^= 0x10
    bad.write_bytes(data)
    damaged = f"damaged: 1 block ({end - begin:,} bytes) could not be read"
    report = moeprobe("report", bad)
    assert report.code == 1 and damaged in report.out, report
    assert f"damaged at byte {begin}" in one_line(report)
    assert f"(skipped: 1 block, {end - begin} bytes)" in one_line(report)
    capture = json.loads(moeprobe("report", "--json", bad).out)["capture"]
    assert (capture["damaged_blocks"], capture["damaged_bytes"]) == (1, end - begin)
    whole = json.loads(moeprobe("report", "--json", good).out)["capture"]
    assert (whole["damaged_blocks"], whole["damaged_bytes"]) == (0, 0)
    assert 0 < capture["decisions"] < whole["decisions"]
    assert capture["ended"] == whole["ended"]  # what follows was read
    dump, all_lines = moeprobe("dump", bad), moeprobe("dump", good).out.splitlines()
    assert dump.code == 1 and f"damaged at byte {begin}" in one_line(dump)
    assert dump.out.splitlines()[-1] == all_lines[-1]
    assert set(dump.out.splitlines()) < set(all_lines)
    top = moeprobe("top", bad)
    assert top.code == 1 and damaged in top.out, top
    # In a pipe the stream ends there; that is said as well.
    piped = subprocess.run(["bash", "-c", f"cat {bad} | {MOEPROBE} report -"], check=False,
                           capture_output=True, text=True, timeout=30)
    assert piped.returncode == 1 and "damaged: 1 block" in piped.stdout, piped
    assert "cut off" in piped.stdout


def test_flipped_bits(tmp_path: Path, good: Path) -> None:
    data, bad = bytearray(good.read_bytes()), tmp_path / "bad"
    for place in range(0, len(data), max(1, len(data) // 25)):
        flipped = data.copy()
        flipped[place] ^= 1 << (place % 8)
        bad.write_bytes(flipped)
        done = moeprobe("dump", "--json", bad)
        assert done.code == (5 if place in (8, 9) else 1), (place, done.err)  # version
        one_line(done)


@pytest.mark.parametrize("arguments", [("report",), ("report", "--json"), ("dump",),
                                       ("top", "--no-tui"), ("report", "--help")])
def test_full_output(good: Path, arguments: tuple[str, ...]) -> None:
    """Standard output that cannot be written is named, with the reason, everywhere."""
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run([str(MOEPROBE), *arguments, str(good)], check=False, stdout=full,
                              stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert "failed to write 'standard output': No space left on device" in done.stderr


def test_pipe_reader_goes(good: Path) -> None:
    """`moeprobe dump | head -1` ends without a word."""
    done = subprocess.run(["bash", "-c", f"{MOEPROBE} dump {good} | head -1"],
                          capture_output=True, text=True, timeout=30, check=False)
    assert len(done.stdout.splitlines()) == 1
    assert len(done.stderr.splitlines()) <= 1, done.stderr


def screen(name: str) -> str:
    return subprocess.run(["tmux", "-L", name, "capture-pane", "-p"], capture_output=True,
                          text=True, check=False).stdout


@pytest.mark.parametrize(("columns", "lines", "small"), [(12, 3, True), (100, 30, False)])
def test_terminal_size(good: Path, columns: int, lines: int, small: bool) -> None:
    """Too small a terminal is said, and is no reason to end; a fitting one shows the picture."""
    name = f"moeprobe-test-{columns}"
    subprocess.run(["tmux", "-L", name, "-f", "/dev/null", "new-session", "-d", "-x", str(columns),
                    "-y", str(lines), f"{MOEPROBE} top {good}; echo code=$?; sleep 60"],
                   check=True)
    try:
        end, shown = time.monotonic() + 15, ""
        wanted = "small" if small else "olmoe"
        while wanted not in shown.lower() and time.monotonic() < end:
            time.sleep(0.2)
            shown = screen(name)
        assert wanted in shown.lower(), shown
        assert "code=" not in shown, shown
        subprocess.run(["tmux", "-L", name, "send-keys", "q"], check=True)
        while "code=0" not in screen(name) and time.monotonic() < end:
            time.sleep(0.2)
        assert "code=0" in screen(name).replace("\n", "")
    finally:
        subprocess.run(["tmux", "-L", name, "kill-server"], check=False)
