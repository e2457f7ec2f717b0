# SPDX-License-Identifier: BSD-2-Clause
"""The live views as a user sees them: in a terminal of a given size, in a pipe, on the way out."""
from __future__ import annotations

import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lib.client import TEXT, Ask, perform
from lib.exact import await_attached
from lib.moeprobe import MOEPROBE, ROOT, moeprobe, recording, running_pids, wait_until
from lib.server import Server

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not shutil.which("tmux"), reason="tmux is not installed: scripts/setup"),
]
STATUS = re.compile(r"coverage .*loss \d.*invalid \d.*slowdown .*collector ")


class Terminal:
    """A tmux server of its own with one pane that runs a shell command."""

    def __init__(self, width: int, height: int, command: str, environment: str = "") -> None:
        self.name = f"moeprobe-{uuid.uuid4().hex[:8]}"
        # Ctrl-C goes to the whole group: the shell must outlive it to say the exit code.
        shell = (f"trap : INT; echo BEFORE; {environment} {command}; code=$?; echo; echo EXIT=$code; "
                 "sleep 600")
        self.tmux("-u", "-f", "/dev/null", "new-session", "-d", "-x", str(width), "-y",
                  str(height), f"LC_ALL=C.UTF-8 TERM=tmux-256color sh -c {shlex.quote(shell)}")

    def tmux(self, *arguments: str) -> str:
        return subprocess.run(["tmux", "-L", self.name, *arguments], check=True, text=True,
                              capture_output=True).stdout

    def screen(self, colours: bool = False) -> str:
        return self.tmux("capture-pane", "-p", *(["-e"] if colours else []))

    def press(self, *keys: str) -> None:
        self.tmux("send-keys", *keys)

    def resize(self, width: int, height: int) -> None:
        self.tmux("resize-window", "-x", str(width), "-y", str(height))

    def shows(self, pattern: str, server: Server | None = None) -> str:
        """Wait until the screen matches, with small requests to @server meanwhile."""
        numbers = iter(range(1000))
        try:
            wait_until(lambda: re.search(pattern, self.screen()) is not None, "",
                       poke=lambda: server and perform(
                           server, Ask(TEXT, f"show {next(numbers)}", 8, seed=next(numbers))))
        except TimeoutError:
            pytest.fail(f"{pattern!r} never came; the screen is:\n{self.screen()}")
        return self.screen()

    def end(self) -> None:
        subprocess.run(["tmux", "-L", self.name, "kill-server"], check=False,
                       capture_output=True)


@contextmanager
def terminal(width: int, height: int, *arguments: str | int,
             environment: str = "") -> Iterator[Terminal]:
    command = shlex.join([str(MOEPROBE), *map(str, arguments)])
    one = Terminal(width, height, command, environment)
    try:
        yield one
    finally:
        one.end()


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40)])
def test_attach_fits(shared_server: Server, width: int, height: int) -> None:
    """Title, every layer, numbers, requests, status and keys, within the screen."""
    with terminal(width, height, "attach", shared_server.pid) as one:
        screen = one.shows(r"(done|decode) +\d", shared_server)
        lines = screen.rstrip("\n").split("\n")
        assert len(lines) <= height
        assert "llama.cpp" in lines[0] and "experts, k " in lines[0]
        assert "steps/s" in lines[1] and "both phases" in lines[1]
        assert "max/mean  never" in screen
        assert STATUS.search(lines[-2]), lines[-2]
        assert "q quit" in lines[-1]
        layers = [line for line in lines if re.match(r"^ +\d+  .* \d+\.\d\d +\d+$", line)]
        assert len(layers) == 4, screen
        one.press("q")
        screen = one.shows("EXIT=")
        assert "BEFORE" in screen and "EXIT=0" in screen, screen
        assert "coverage" in screen and "loss" in screen


def test_keys(shared_server: Server) -> None:
    with terminal(100, 30, "attach", shared_server.pid) as one:
        one.shows(r"(done|decode) +\d", shared_server)
        one.press("w")
        one.shows("1 min · both phases")
        one.press("Tab")
        one.shows("1 min · prefill")
        one.press("Tab", "w")
        one.shows("whole · decode")
        one.press("?")
        one.shows("Each row of the map is a layer")
        one.press("?", "p")
        one.shows("PAUSED")
        one.press("C-c")
        assert "EXIT=0" in one.shows("EXIT=")


def test_idle_warning_goes_away(shared_server: Server) -> None:
    """It takes the line of the keys until routes arrive, and no longer."""
    with terminal(100, 30, "attach", shared_server.pid) as one:
        one.shows("warning: idle: no router result yet")
        perform(shared_server, Ask(TEXT, "no longer idle", 8, seed=1))
        screen = one.shows(r"(done|decode) +\d")
        assert "q quit" in screen and "warning: idle" not in screen, screen
        one.press("q")
        one.shows("EXIT=0")


def test_pause_stands_still(shared_server: Server) -> None:
    """Whatever comes and whatever is pressed: the picture changes when the pause ends."""
    with terminal(100, 30, "attach", shared_server.pid) as one:
        one.shows(r"(done|decode) +\d", shared_server)
        one.press("p")
        before = one.shows("PAUSED: p goes on")
        perform(shared_server, Ask(TEXT, "while it stands still", 16, seed=1))
        for key in ("w", "Tab", "Down", "?", "x"):
            one.press(key)
        time.sleep(0.6)  # three draws
        assert one.screen() == before
        one.press("p")
        one.shows("q quit")
        after = one.screen()
        assert after != before and "PAUSED" not in after
        one.press("q")
        one.shows("EXIT=0")


def test_too_small_then_resized(shared_server: Server) -> None:
    with terminal(60, 15, "attach", shared_server.pid) as one:
        one.shows("too small: 60x15, needs 80x24")
        one.resize(90, 30)
        one.shows(r"steps/s", shared_server)
        one.press("q")
        one.shows("EXIT=0")


def test_no_color_and_no_unicode(shared_server: Server) -> None:
    with terminal(80, 24, "attach", shared_server.pid,
                  environment="NO_COLOR=1 LC_ALL=C") as one:
        one.shows(r"(done|decode) +\d", shared_server)
        coloured = one.screen(colours=True)
        assert not re.search(r"\x1b\[[0-9;]*[34]8;5;", coloured)
        assert "x even" in coloured and coloured.isascii()


@pytest.mark.parametrize(("environment", "ellipsis"), [("", "…"), ("LC_ALL=C", "~")])
def test_names_that_are_cut(shared_server: Server, tmp_path: Path, environment: str,
                            ellipsis: str) -> None:
    file = tmp_path / ("long-" * 20 + ".moe")
    with recording(shared_server.pid, file) as record:
        await_attached(shared_server, record)
        assert record.stop().code == 0
    with terminal(80, 24, "top", str(file), "--speed", "0", environment=environment) as one:
        title = one.shows(r"done +\d").split("\n")[0]
        assert f"{'long-' * 7}long{ellipsis}" in title, title
        assert re.search(f"{ellipsis}  end . [0-9.]+ s$", title), title  # the model's name
        assert f"{ellipsis}\n" in one.screen(), one.screen()  # a client's id at the edge
        one.press("q")
        one.shows("EXIT=0")


def test_lines_fit(shared_server: Server, tmp_path: Path) -> None:
    """What is printed as lines fits into 80 columns, but for paths and messages."""
    file = tmp_path / "r.moe"
    with recording(shared_server.pid, file) as record:
        await_attached(shared_server, record)
        assert record.stop().code == 0
    for arguments in (("attach",), ("doctor", shared_server.pid), ("report", file), ("top", file),
                      ("attach", shared_server.pid, "-d", "1.5")):
        out = moeprobe(*arguments).out
        wide = [line for line in out.splitlines() if len(line) > 80 and "/" not in line]
        assert out and not wide, (arguments, wide)
    assert "most uneven layers of the last 10 s (4 of 4):" in moeprobe("top", file).out


def test_dumb_terminal_gets_lines(shared_server: Server) -> None:
    with terminal(80, 24, "attach", shared_server.pid, environment="TERM=dumb") as one:
        one.shows(r"decisions=[1-9]", shared_server)
        one.press("C-c")
        one.shows("EXIT=0")


def test_killed_terminal_ends_the_collector(shared_server: Server) -> None:
    """The window is closed: nothing of ours stays."""
    with terminal(80, 24, "attach", shared_server.pid) as one:
        one.shows("steps/s")
        pane = int(one.tmux("display-message", "-p", "#{pane_pid}"))
        ours = descendants(pane)
        assert len(ours) >= 3, ours
    wait_until(lambda: not running_pids(ours), "still running")


def descendants(pid: int) -> list[int]:
    """What runs below @pid."""
    found: list[int] = []
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        found += [int(child), *descendants(int(child))]
    return found


def test_moeprobe_has_no_rights(shared_server: Server, tmp_path: Path) -> None:
    with recording(shared_server.pid, tmp_path / "r.moe") as record:
        await_attached(shared_server, record)
        status = Path(f"/proc/{record.process.pid}/status").read_text()
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        assert fields["Uid"].split() == ["65534"] * 4
        assert fields["Groups"].strip() == ""
        assert int(fields["CapEff"], 16) == int(fields["CapPrm"], 16) == 0
        assert fields["NoNewPrivs"] == "1"
        assert record.stop().code == 0
    file = (tmp_path / "r.moe").stat()
    assert (file.st_uid, file.st_mode & 0o777) == (65534, 0o600)


def test_replay_shows_the_same(shared_server: Server, tmp_path: Path) -> None:
    """The last lines of a replay are those of the capture; a screen stays until q."""
    file = tmp_path / "r.moe"
    with recording(shared_server.pid, file) as record:
        await_attached(shared_server, record)
        done = record.stop()
    summary = done.err[done.err.index("decisions in"):].splitlines()
    replay = moeprobe("top", file)
    assert replay.code == 0
    assert summary[0].split(" in ")[0] in replay.out
    assert summary[1] in replay.out
    with terminal(80, 24, "top", str(file), "--speed", "0") as one:
        assert " end" in one.shows("end · ").split("\n")[0]
        one.press("q")
        one.shows("EXIT=0")


def test_demo_ends_quietly() -> None:
    """Ctrl-C is how one leaves it: no traceback, no complaint, and no server stays."""
    one = Terminal(100, 30, shlex.join([sys.executable, str(ROOT / "scripts" / "demo.py")]))
    try:
        pid = int(re.search(r"server, pid (\d+)", one.shows(r"server, pid \d+,"))[1])
        one.shows("max/mean")
        one.press("C-c")
        last = one.shows(r"EXIT=\d+")
        assert "EXIT=0" in last and "decisions in" in last, last
        assert "Traceback" not in last and "failed" not in last, last
        assert not Path(f"/proc/{pid}").exists()
    finally:
        one.end()


def test_second_interrupt_ends_at_once(shared_server: Server) -> None:
    with subprocess.Popen([str(MOEPROBE), "attach", str(shared_server.pid)],
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as one:
        assert one.stdout and one.stdout.readline()
        one.send_signal(signal.SIGINT)
        one.send_signal(signal.SIGINT)
        one.stdout.read()
        assert one.wait(5) in (0, 1)
