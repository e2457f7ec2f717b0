# SPDX-License-Identifier: BSD-2-Clause
"""Servers whose files are not where their names say: in namespaces of their own, behind another
root, deleted or replaced on disk since they started. Attaching works by what is mapped, never by
a path, and every row that the clients were told of is there, right."""
from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from lib.client import Crowd, mixed_asks
from lib.exact import await_attached, check_totals
from lib.judge import judge
from lib.library import copy_of_engine
from lib.models import EXACT, model
from lib.moeprobe import MOEPROBE, ROOT, Capture, children_of, recording, wait_until
from lib.oracle import Oracle
from lib.recording import FROM_FILE, STOPS, Picture, read
from lib.server import SERVE, Options, Server, running, wait_listening

UNSHARE = ("unshare", "--pid", "--mount", "--fork", "--mount-proc", "--kill-child")


def allowed() -> bool:
    return subprocess.run([*UNSHARE, "true"], capture_output=True, check=False).returncode == 0


pytestmark = [pytest.mark.root,
              pytest.mark.skipif(not allowed(), reason="cannot make namespaces here")]

# Arguments: a directory of the host, then the server's command. There the root of a file system
# of its own is built: model and library exist in it alone, the rest is the host's.
PRIVATE_ROOT = r"""
set -e
root=$1; model=$2; library=$3; shift 3
checkout=$(pwd)
mount --make-rprivate /
mount -t tmpfs tmpfs "$root"
cp "$model" "$root/model.gguf"
mkdir "$root/library" "$root/before" "$root/tmp"
cp -r "$library" "$root/library/"
cd /
for name in *; do
	if [ -L "$name" ]; then
		cp -d "$name" "$root/"
	elif [ -d "$name" ] && [ ! -e "$root/$name" ]; then
		mkdir "$root/$name"
		mount --rbind "/$name" "$root/$name"
	fi
done
if [ ! -e "$root$checkout" ]; then  # a checkout below the host's /tmp, say
	mkdir -p "$root$checkout"
	mount --rbind "$checkout" "$root$checkout"
fi
cd "$root"
pivot_root . before
umount -l before
exec "$@"
"""

# Arguments as above. A file system over the directory hides what the host has there.
HIDDEN_DIRECTORY = r"""
set -e
root=$1; model=$2; library=$3; shift 3
mount --make-rprivate /
mount -t tmpfs tmpfs "$root"
cp "$model" "$root/model.gguf"
mkdir "$root/library"
cp -r "$library" "$root/library/"
exec "$@"
"""


@dataclass
class Contained(Server):
    """A server in a pid namespace: its pid here is the host's."""

    inner: int = 0

    @property
    def pid(self) -> int:
        return self.inner

    def stop(self) -> None:
        os.kill(self.inner, signal.SIGKILL)
        super().stop()


def serve(model_file: Path | str, options: Options) -> list[str]:
    return [sys.executable, str(SERVE), str(model_file), *options.arguments()]


@contextmanager
def contained(log: Path, command: list[str], shape: Path) -> Iterator[Contained]:
    """@command in pid and mount namespaces of its own, serving the model of @shape."""
    with log.open("wb") as output:
        process = subprocess.Popen([*UNSHARE, *command], cwd=ROOT, stdout=output,
                                   stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
    server = Contained(process, shape, log)
    try:
        wait_until(lambda: len(children_of(process.pid)) > 1, "no namespaces")
        server.inner = children_of(process.pid)[1]
        wait_listening(server)
        yield server
    finally:
        if server.inner:
            server.stop()
        process.kill()
        process.wait()


def package() -> Path:
    import xllamacpp

    return Path(xllamacpp.__file__).parent


@contextmanager
def behind(script: str, directory: Path, inside: Path, log: Path) -> Iterator[Contained]:
    """A server with model and library on a file system that only it sees, at @inside."""
    shape = model(EXACT["olmoe"])
    options = Options(library=str(inside / "library"))
    with contained(log, ["sh", "-c", script, "sh", str(directory), str(shape), str(package()),
                         *serve(inside / "model.gguf", options)], shape) as server:
        yield server


@contextmanager
def recording_inside(server: Contained, file: Path) -> Iterator[Capture]:
    """moeprobe in the server's own namespaces, where its pid is 1."""
    log = file.with_suffix(".log")
    with log.open("wb") as output:
        process = subprocess.Popen(["nsenter", "-t", str(server.inner), "--pid", "--mount",
                                    str(MOEPROBE), "record", "1", "-o", str(file), "--detail",
                                    "tokens", "-d", "120"], stdout=output,
                                   stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
    try:
        yield Capture(process, file, log)
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(10)


def check_exact(server: Server, capture: Capture, seed: int) -> Picture:
    """Load it; the recording must agree with clients and oracle in everything."""
    early = await_attached(server, capture)
    asks = mixed_asks(seed, count=6, long=(), cancelled=0)
    answers = Crowd(server, asks, 4).start().wait()
    server.wait_idle()
    inside = [pid for pid in children_of(capture.process.pid) if pid != capture.process.pid]
    os.kill(inside[0] if "nsenter" in command_of(capture.process.pid) else capture.process.pid,
            signal.SIGINT)
    done = capture.wait(20)
    assert done.code == 0, done.err
    recorded = read(capture.file)
    assert STOPS[recorded.one("end").fields["stop"]] == "asked"
    picture = Picture(recorded)
    verdict = judge(picture, answers, Oracle(server.model), optional=early)
    assert not verdict.faults, "\n".join(verdict.faults[:20])
    assert verdict.requests >= len(answers) and verdict.decisions > 1000
    check_totals(picture)
    assert recorded.one("model").flags & FROM_FILE
    assert server.still_serves()
    return picture


def command_of(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text()


def path_of_model(picture: Picture) -> str:
    return str(picture.recording.one("model").columns["path"])


def test_own_namespaces(tmp_path: Path) -> None:
    shape = model(EXACT["olmoe"])
    with contained(tmp_path / "server.log", serve(shape, Options()), shape) as server, \
            recording(server.pid, tmp_path / "r.moeprobe") as capture:
        picture = check_exact(server, capture, seed=21)
    assert path_of_model(picture) == str(shape)
    process = picture.recording.one("process").fields
    assert process["pid"] == server.pid
    assert process["pid_namespace_inode"] not in (0, os.stat("/proc/self/ns/pid").st_ino)


def test_attached_from_inside(tmp_path: Path) -> None:
    """moeprobe and server in one container: pids are those of the container."""
    shape = model(EXACT["olmoe"])
    with contained(tmp_path / "server.log", serve(shape, Options()), shape) as server, \
            recording_inside(server, tmp_path / "r.moeprobe") as capture:
        picture = check_exact(server, capture, seed=22)
    assert picture.recording.one("process").fields["pid"] == 1


def test_own_root(tmp_path: Path) -> None:
    """Neither the model nor the library exists for the host."""
    root = tmp_path / "root"
    root.mkdir()
    with behind(PRIVATE_ROOT, root, Path("/"), tmp_path / "server.log") as server:
        assert not Path("/model.gguf").exists() and not list(root.iterdir())
        with recording(server.pid, tmp_path / "r.moeprobe") as capture:
            picture = check_exact(server, capture, seed=23)
    assert path_of_model(picture) == "/model.gguf"


@pytest.mark.full
def test_host_has_other_files_there(tmp_path: Path) -> None:
    """Where the server's model and library are by name, the host has others."""
    place = tmp_path / "files"
    (place / "library" / "xllamacpp").mkdir(parents=True)
    shutil.copy(model(EXACT["mixtral"]), place / "model.gguf")
    shutil.copy("/bin/true", place / "library" / "xllamacpp" / "xllamacpp.abi3.so")
    with behind(HIDDEN_DIRECTORY, place, place, tmp_path / "server.log") as server, \
            recording(server.pid, tmp_path / "r.moeprobe") as capture:
        picture = check_exact(server, capture, seed=24)
    assert path_of_model(picture) == str(place / "model.gguf")


@pytest.mark.parametrize("how", ["replaced", pytest.param("deleted", marks=pytest.mark.full)])
def test_files_changed_since_start(how: str, tmp_path: Path) -> None:
    """An upgrade under a running server: what it runs is what it mapped."""
    library = copy_of_engine(tmp_path / "library")
    shape = model(EXACT["olmoe"])
    file = tmp_path / "model.gguf"
    shutil.copy(shape, file)
    options = Options(library=str(tmp_path / "library"))
    with running(file, tmp_path / "server.log", options) as server:
        for changed, other in ((library, Path("/bin/true")), (file, model(EXACT["mixtral"]))):
            changed.unlink()
            if how == "replaced":
                shutil.copy(other, changed)
        server.model = shape
        with recording(server.pid, tmp_path / "r.moeprobe") as capture:
            check_exact(server, capture, seed=25)
