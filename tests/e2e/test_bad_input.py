# SPDX-License-Identifier: BSD-2-Clause
"""What cannot work says so: one clear line (what, why) and what to do, the right exit code, and
a target that goes on serving as if nothing had been."""
from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lib.client import TEXT, Ask, Crowd
from lib.exact import await_attached
from lib.library import without_names
from lib.models import EXACT, model
from lib.moeprobe import (
    KERNEL_SECONDS,
    BUILD,
    COLLECTOR,
    Finished,
    children_of,
    existing,
    kernel_objects,
    moeprobe,
    recording,
    running_pids,
    wait_until,
)
from lib.recording import STOPS, read
from lib.sites import code_at, places_of
from lib.server import Options, Server, running

pytestmark = pytest.mark.root

NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
ROUTER = b"ggml_compute_forward_mul"


def refused(done: Finished, code: int, *words: str) -> None:
    """One line says what and why with @words, at most one more what to do."""
    lines = done.error_lines()
    assert done.code == code, done
    assert lines and lines[0].startswith("moeprobe"), done.err
    assert len(lines) <= 2, done.err
    assert len(lines) == 1 or lines[1].startswith("  try: "), done.err
    for word in words:
        assert word.lower() in done.err.lower(), f"{word!r} is not in: {done.err}"


def record(pid: int, file: Path | str, *options: str, before: tuple[str, ...] = ()) -> Finished:
    return moeprobe("record", pid, "-o", file, "-d", "5", *options, before=before)


def unused_pid() -> int:
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


@pytest.fixture(name="sleeper")
def fixture_sleeper() -> Iterator[int]:
    process = subprocess.Popen(["sleep", "60"])
    yield process.pid
    assert process.poll() is None, "the target was touched"
    process.kill()
    process.wait()


# --- at attach --------------------------------------------------------------------------------

def test_no_such_pid(tmp_path: Path) -> None:
    pid = unused_pid()
    refused(record(pid, tmp_path / "r"), 4, str(pid))
    refused(moeprobe("attach", pid), 4, str(pid))


def test_zombie(tmp_path: Path) -> None:
    process = subprocess.Popen(["true"])
    wait_until(lambda: not running_pids([process.pid]), "still runs")
    refused(record(process.pid, tmp_path / "r"), 4, str(process.pid))
    process.wait()


def test_no_known_engine(sleeper: int, tmp_path: Path) -> None:
    refused(record(sleeper, tmp_path / "r"), 5, str(sleeper), "llama")


def test_dense_model(dense_server: Server, tmp_path: Path) -> None:
    refused(record(dense_server.pid, tmp_path / "r"), 5, "expert")
    servers, apart = moeprobe("attach").out.split("cannot be attached to\n")
    assert f"  {dense_server.pid} " not in servers, servers
    assert f"  {dense_server.pid}, " in apart and "expert" in apart, apart
    assert dense_server.still_serves()


def test_no_rights(shared_server: Server) -> None:
    done = record(shared_server.pid, "/dev/null", before=NOBODY)
    refused(done, 3, "CAP_BPF", "CAP_PERFMON", "CAP_SYS_PTRACE")
    assert "try: " in done.err
    assert shared_server.still_serves()


def test_list_without_rights(shared_server: Server) -> None:
    """What could not be read is no server that is not there."""
    for arguments in (("attach",), ("attach", "--port", "1"), ("record", "--name", "llama.cpp")):
        done = moeprobe(*arguments, *(("-o", "/dev/null") if arguments[0] == "record" else ()),
                        before=NOBODY)
        refused(done, 3, "could not be read", "sudo moeprobe attach")
        assert not done.out
    listed = moeprobe("attach").out
    assert f"  {shared_server.pid} " in listed and f" {shared_server.port} " in listed, listed
    refused(moeprobe("attach", "--port", "1"), 4)


def test_doctor_without_rights(shared_server: Server) -> None:
    """It ends with 0 only where attach would work."""
    done = moeprobe("doctor", before=NOBODY)
    refused(done, 3, "CAP_BPF", "CAP_PERFMON", "CAP_SYS_PTRACE")
    assert "missing" in done.out
    assert done.out.count("setcap") == 1, done.out
    done = moeprobe("doctor", shared_server.pid, "--json", before=NOBODY)
    refused(done, 3, "CAP_BPF")
    assert json.loads(done.out)["exit_code"] == 3
    assert moeprobe("doctor").code == 0
    assert moeprobe("doctor", shared_server.pid).code == 0


def test_thread_instead_of_process(shared_server: Server) -> None:
    """As top shows it with threads on: the process that it belongs to is named."""
    pid = shared_server.pid
    thread = next(int(one) for one in os.listdir(f"/proc/{pid}/task") if int(one) != pid)
    for command in ("attach", "doctor"):
        done = moeprobe(command, thread)
        refused(done, 4, f"process {thread}: it is a thread of process {pid}",
                f"  try: name the process: {pid}")
    assert moeprobe("attach", thread, "-d", "1").code == 4


def test_doctor_of_no_process() -> None:
    """What can be said of the machine is said all the same, before the error."""
    pid = unused_pid()
    machine = moeprobe("doctor")
    done = moeprobe("doctor", pid)
    refused(done, 4, str(pid), "no such process")
    for line in machine.out.splitlines():
        name = line.split("  ")[2:3]  # of area, name, status, value
        assert not name or name[0] in done.out, (name, done.out)
    assert "kernel programs" in done.out and "not attachable" in done.out
    found = json.loads(moeprobe("doctor", pid, "--json").out)
    assert found["exit_code"] == 4
    assert {one["name"] for one in found["findings"] if one["pid"] is None} >= {
        one["name"] for one in json.loads(moeprobe("doctor", "--json").out)["findings"]}
    both = subprocess.run(["bash", "-c", f"{BUILD}/moeprobe doctor {pid} 2>&1"], check=False,
                          capture_output=True, text=True, timeout=30).stdout
    assert both.index("kernel programs") < both.index("moeprobe: ")


def test_one_right_missing(shared_server: Server) -> None:
    """Only what is missing is named."""
    done = record(shared_server.pid, "/dev/null",
                  before=("setpriv", "--bounding-set=-sys_admin,-perfmon"))
    refused(done, 3, "CAP_PERFMON")
    assert "CAP_BPF" not in done.err.splitlines()[0]


def test_root_is_not_told_to_become_root(tmp_path: Path) -> None:
    """The first process of a container may be nobody's to look at, its root's included."""
    done = record(1, tmp_path / "r")
    if done.code == 3:
        refused(done, 3, "no right to read its maps")
        assert "run as root" not in done.err and "user namespace" in done.err
    done = record(os.getpid(), tmp_path / "r", before=("setpriv", "--bounding-set=-sys_ptrace"))
    refused(done, 3, "CAP_SYS_PTRACE")
    assert "sudo" not in done.err and "--cap-add" in done.err


def test_router_has_no_name(tmp_path: Path) -> None:
    """A library whose symbols are gone: refused by name, the server unharmed."""
    options = Options(library=str(without_names(tmp_path / "library", ROUTER)))
    with running(model(EXACT["olmoe"]), tmp_path / "server.log", options) as server:
        refused(record(server.pid, tmp_path / "r"), 5, ROUTER.decode())
        assert server.still_serves()


@pytest.mark.parametrize("arguments", [
    ("record",), ("record", "0"), ("record", "x"), ("record", "1", "--detail", "all"),
    ("report",), ("dump", "--frobnicate"), ("frobnicate",), ("record", "1", "-d", "-3"),
    ("attach", "1", "--max-loss", "200"), ("report", "x", "--min-coverage", "-1"),
])
def test_usage(arguments: tuple[str, ...]) -> None:
    done = moeprobe(*arguments)
    assert done.code == 2, done
    assert done.err and not done.out


def test_gates_are_refused_by_name(shared_server: Server, tmp_path: Path) -> None:
    done = record(shared_server.pid, tmp_path / "r", "--detail", "gates")
    assert done.code == 2 and "gates" in done.err


# --- the target goes --------------------------------------------------------------------------

@pytest.mark.parametrize(("number", "stop"), [
    (signal.SIGKILL, "target_exit"), (signal.SIGTERM, "target_exit"),
    (signal.SIGUSR1, "target_exec"),
])
def test_target_goes_during_capture(olmoe_server: Server, tmp_path: Path,
                                    number: signal.Signals, stop: str) -> None:
    """Killed, ended or turned into another program: the file is whole and says so."""
    with recording(olmoe_server.pid, tmp_path / "r.moeprobe") as one:
        await_attached(olmoe_server, one)
        crowd = Crowd(olmoe_server, [Ask(TEXT, f"go {n}", 300, seed=n) for n in range(4)], 4)
        crowd.start()
        wait_until(lambda: (tmp_path / "r.moeprobe").stat().st_size > 20000, "no data")
        os.kill(olmoe_server.pid, number)
        done = one.wait(20)
    crowd.stop()
    assert done.code == 0, done.err
    result = read(tmp_path / "r.moeprobe")
    assert result.complete
    assert STOPS[result.one("end").fields["stop"]] == stop
    assert result.of("route")
    ended = {record_.fields["request"] for record_ in result.of("request_end")}
    begun = {record_.fields["request"] for record_ in result.of("request_begin")}
    assert ended == begun


# --- the output goes --------------------------------------------------------------------------

def test_output_cannot_be_created(shared_server: Server, tmp_path: Path) -> None:
    file = tmp_path / "missing" / "r"
    refused(record(shared_server.pid, file), 1, str(file), "no such file")
    assert shared_server.still_serves()


def test_output_is_a_directory(shared_server: Server, tmp_path: Path) -> None:
    refused(record(shared_server.pid, tmp_path), 1, str(tmp_path), "directory")


@pytest.fixture(name="small_disk")
def fixture_small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k,mode=777", "tmpfs",
                              str(place)], check=False, capture_output=True)
    if mounted.returncode:
        pytest.skip("cannot mount a small disk here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_disk_full(olmoe_server: Server, small_disk: Path) -> None:
    """What was written before the disk was full stays readable."""
    file = small_disk / "r.moeprobe"
    crowd = Crowd(olmoe_server, [Ask(TEXT, f"fill {n}", 400, seed=n) for n in range(400)], 4)
    with recording(olmoe_server.pid, file) as one:
        crowd.start()
        done = one.wait(60)
    crowd.stop()
    assert done.code == 1, done.err
    assert "no space left" in done.err.lower()
    assert read(file).of("route")
    report = moeprobe("report", file)
    assert report.code == 0
    assert "Warnings\n  warning\n  ended: the output could not be written" in report.out
    assert olmoe_server.still_serves()


@pytest.mark.parametrize("command", ["record {pid} -o - -d 20", "attach {pid}"])
def test_reader_of_the_pipe_goes(olmoe_server: Server, command: str) -> None:
    """`moeprobe ... | head`: it ends soon and quietly."""
    line = command.format(pid=olmoe_server.pid)
    crowd = Crowd(olmoe_server, [Ask(TEXT, f"pipe {n}", 300, seed=n) for n in range(400)], 4)
    crowd.start()
    done = subprocess.run(["bash", "-c", f"{BUILD}/moeprobe {line} | head -c 100 > /dev/null; "
                           "exit ${PIPESTATUS[0]}"], capture_output=True, text=True, timeout=30,
                          check=False, stdin=subprocess.DEVNULL)
    crowd.stop()
    assert done.returncode == 128 + signal.SIGPIPE, done
    assert "fail" not in done.stderr and len(done.stderr.splitlines()) <= 2, done.stderr
    assert olmoe_server.still_serves()


# --- we go ------------------------------------------------------------------------------------

@pytest.mark.parametrize("victim", ["moeprobe", "broker", "reader"])
def test_whoever_is_killed_takes_the_probes_along(olmoe_server: Server, tmp_path: Path,
                                                  victim: str) -> None:
    """SIGKILL of each process in turn: no link, program, map or process is left."""
    with recording(olmoe_server.pid, tmp_path / "r.moeprobe") as one:
        await_attached(olmoe_server, one)
        wait_until(lambda: len(children_of(one.process.pid)) == 3, "a hit is still measured",
                   KERNEL_SECONDS)
        family = children_of(one.process.pid)
        held = kernel_objects(family)
        assert {kind for kind, _ in held} == {"link", "prog", "map"}
        links = {key for key in held if key[0] == "link"}
        brokers = [pid for pid in family if kernel_objects([pid]) & links]
        readers = [pid for pid in family if not capabilities(pid) and pid != one.process.pid]
        assert brokers and len(readers) == 1
        pid = {"moeprobe": one.process.pid, "broker": brokers[0], "reader": readers[0]}[victim]
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not running_pids([p for p in family if p != one.process.pid])
                   and one.process.poll() is not None, "processes are left", KERNEL_SECONDS)
        wait_until(lambda: not existing(held), "kernel objects are left", KERNEL_SECONDS)
        if victim != "moeprobe":
            assert one.process.returncode == 1, one.said
            assert (victim == "reader") == ("until the stream broke off" in one.said), one.said
            assert len([line for line in one.said.splitlines()
                        if line.startswith("moeprobe")]) >= 1, one.said
    assert read(tmp_path / "r.moeprobe").records
    assert olmoe_server.still_serves()


@pytest.mark.parametrize("number", ["INT", "TERM"])
def test_background_job_of_a_script(olmoe_server: Server, tmp_path: Path, number: str) -> None:
    """A shell without job control starts it with SIGINT ignored; kill -INT ends it all the same."""
    file, log = tmp_path / "r.moeprobe", tmp_path / "log"
    script = (f"{BUILD}/moeprobe record {olmoe_server.pid} -o {file} > {log} 2>&1 & job=$!\n"
              f"read go; kill -{number} $job; wait $job")
    with subprocess.Popen(["bash", "-c", script], stdin=subprocess.PIPE) as shell:
        wait_until(lambda: log.exists() and "waiting for the first step" in log.read_text(),
                   "nothing is said of an idle server")
        assert log.read_text() == (f"probes placed in process {olmoe_server.pid} (llama.cpp); "
                                   "waiting for the first step\n")
        wait_until(lambda: log.exists() and "data flows" in log.read_text(), "no data",
                   poke=olmoe_server.still_serves)
        shell.communicate(b"\n", timeout=30)
    assert shell.returncode == 0, log.read_text()
    assert STOPS[read(file).one("end").fields["stop"]] == "asked"


def test_end_leaves_nothing(olmoe_server: Server, tmp_path: Path) -> None:
    """When the command ends the target's code is as it was. The kernel frees what it held a little
    later (on a busy machine ten seconds were seen: it waits until no program can still run)."""
    places = places_of(olmoe_server.pid)
    before = code_at(olmoe_server.pid, places)
    assert len(places) == 4 and b"\xcc" not in before
    with recording(olmoe_server.pid, tmp_path / "r.moeprobe") as one:
        await_attached(olmoe_server, one)
        held = kernel_objects(children_of(one.process.pid))
        assert held
        assert code_at(olmoe_server.pid, places) == b"\xcc" * len(places)
        assert one.stop().code == 0
    assert code_at(olmoe_server.pid, places) == before
    wait_until(lambda: not existing(held), "kernel objects are left", KERNEL_SECONDS)


def leaks() -> int:
    """How often the kernel said that it could not take a probe away."""
    log = subprocess.run(["dmesg"], capture_output=True, text=True, errors="replace",
                         check=False)
    if log.returncode:
        pytest.skip(f"the kernel's log cannot be read: {log.stderr.strip()}")
    return log.stdout.count("leaking uprobe")


def test_ends_while_a_hit_is_measured(olmoe_server: Server, tmp_path: Path) -> None:
    """Whoever measures is asked to end and not killed: with a fatal signal pending the kernel leaves
    probes behind, and says so in its log."""
    before, places = leaks(), places_of(olmoe_server.pid)
    code = code_at(olmoe_server.pid, places)
    for number in range(6):
        with recording(olmoe_server.pid, tmp_path / "r.moeprobe") as one:
            await_attached(olmoe_server, one)
            time.sleep(0.05 * number)
            assert one.stop().code == 0
        assert code_at(olmoe_server.pid, places) == code
    assert leaks() == before


def test_reader_has_no_rights(olmoe_server: Server, tmp_path: Path) -> None:
    """Neither what parses foreign bytes nor what draws pictures keeps a capability."""
    with recording(olmoe_server.pid, tmp_path / "r.moeprobe") as one:
        await_attached(olmoe_server, one)
        wait_until(lambda: len(children_of(one.process.pid)) == 3, "a hit is still measured",
                   KERNEL_SECONDS)
        capable = {pid: capabilities(pid) for pid in children_of(one.process.pid)}
        assert sorted(bool(rights) for rights in capable.values()) == [False, False, True]
        assert not capable[one.process.pid]


def capabilities(pid: int) -> int:
    """Permitted capabilities as a mask; -1: the process (one that measured a hit) is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return -1
    for line in status.splitlines():
        if line.startswith("CapPrm:"):
            return int(line.split()[1], 16)
    raise LookupError(f"no capabilities of {pid}")


def test_collector_alone_says_it_too(tmp_path: Path) -> None:
    pid = unused_pid()
    done = moeprobe(pid, program=COLLECTOR)
    assert done.code == 4 and str(pid) in done.err
