# SPDX-License-Identifier: BSD-2-Clause
"""`record -o FILE`: what stood there survives until there is something to put in its place."""
from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from lib.moeprobe import MOEPROBE, children_of, moeprobe, wait_until
from lib.recording import STOPS, read
from lib.server import Server

pytestmark = pytest.mark.root
NO_PID = 99999999


def test_new_file_is_the_users(shared_server: Server, tmp_path: Path) -> None:
    file = tmp_path / "a.moe"
    assert moeprobe("record", shared_server.pid, "-o", file, "-d", "0.3").code == 0
    status = file.stat()
    assert (status.st_uid, status.st_mode & 0o777) == (65534, 0o600)
    assert file.read_bytes()[:8] == b"moeprobe"
    assert os.listdir(tmp_path) == ["a.moe"]


def test_recording_survives_a_logout(shared_server: Server, tmp_path: Path) -> None:
    """Under nohup, what a terminal's end sends to all of us ends nothing: it runs for its time."""
    file = tmp_path / "a.moe"
    with (tmp_path / "log").open("wb") as log, subprocess.Popen(
            ["nohup", str(MOEPROBE), "record", str(shared_server.pid), "-o", str(file), "-d", "2"],
            stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL) as one:
        wait_until(file.exists, "nothing recorded", poke=shared_server.still_serves)
        for pid in children_of(one.pid):
            os.kill(pid, signal.SIGHUP)
        assert one.wait(30) == 0
    end = read(file).one("end")
    assert STOPS[end.fields["stop"]] == "duration"


def test_recording_survives_a_wrong_pid(tmp_path: Path) -> None:
    file = tmp_path / "a.moe"
    file.write_bytes(b"moeprobe, an earlier one")
    file.chmod(0o640)
    done = moeprobe("record", NO_PID, "-o", file, "-d", "1")
    assert done.code == 4, done.err
    assert file.read_bytes() == b"moeprobe, an earlier one"
    assert file.stat().st_mode & 0o777 == 0o640
    assert os.listdir(tmp_path) == ["a.moe"]


def test_failure_leaves_no_stub(tmp_path: Path) -> None:
    assert moeprobe("record", NO_PID, "-o", tmp_path / "a.moe").code == 4
    assert not os.listdir(tmp_path)


def test_refused_rename_keeps_the_data(shared_server: Server, tmp_path: Path) -> None:
    """A folder takes the name while we attach: the recording goes on beside it, and is said."""
    place = tmp_path / "place"
    place.mkdir()
    with subprocess.Popen([str(MOEPROBE), "record", str(shared_server.pid), "-o",
                           str(place / "a.moe"), "-d", "0.5"], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True) as one:
        wait_until(lambda: bool(os.listdir(place)), "nothing to rename")
        (place / "a.moe").mkdir()
        assert shared_server.still_serves()
        out, err = one.communicate(timeout=30)
    assert one.returncode == 1, err
    (file,) = [each for each in place.iterdir() if each.is_file()]
    error, remedy = [line for line in err.splitlines()
                     if not line.startswith(("attached", "probes placed"))]
    assert error.startswith("moeprobe: file: failed to rename what was written to "), err
    assert str(place / "a.moe") in error and "Is a directory" in error, err
    assert remedy == f"  try: use what is in '{file}'", err
    assert f"moeprobe report {file}" in out and "not all" not in out, out
    assert moeprobe("report", file).code == 0


@pytest.mark.parametrize("before", [b"", b"moeprobe, an earlier one"])
def test_recording_is_replaced(shared_server: Server, tmp_path: Path, before: bytes) -> None:
    file = tmp_path / "a.moe"
    file.write_bytes(before)
    assert moeprobe("record", shared_server.pid, "-o", file, "-d", "0.3").code == 0
    assert moeprobe("report", file).code == 0
    assert file.stat().st_uid == 65534


def test_foreign_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "notes"
    file.write_text("precious\n")
    done = moeprobe("record", NO_PID, "-o", file)
    assert done.code == 1 and "no recording" in done.err and "remove it" in done.err
    assert file.read_text() == "precious\n"


def test_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("")
    (tmp_path / "link").symlink_to("notes")
    done = moeprobe("record", NO_PID, "-o", tmp_path / "link")
    assert done.code == 1 and "symbolic link" in done.err
    assert (tmp_path / "link").is_symlink()


def test_devices_are_written_directly(shared_server: Server) -> None:
    assert moeprobe("record", shared_server.pid, "-o", "/dev/null", "-d", "0.3").code == 0
    done = moeprobe("record", shared_server.pid, "-o", "/dev/full", "-d", "0.3")
    assert done.code == 1 and "No space left" in done.err
    assert Path("/dev/full").is_char_device()


def test_rights_are_those_of_sudos_user(tmp_path: Path) -> None:
    """A directory that only root may write to."""
    tmp_path.chmod(0o755)
    done = moeprobe("SUDO_UID=1234", "SUDO_GID=1234", str(MOEPROBE), "record", NO_PID, "-o",
                    tmp_path / "a.moe", program=Path("/usr/bin/env"))
    assert done.code == 1 and "Permission denied" in done.err, done.err
    assert not os.listdir(tmp_path)
