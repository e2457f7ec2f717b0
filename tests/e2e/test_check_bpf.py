"""scripts/check_bpf.py must notice what it is there for."""
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "check_bpf.py"

PROGRAM = """
#define SEC(name) __attribute__((section(name), used))
static long (*read_user)(void *, unsigned, const void *) = (void *)112;
static long (*tail_call)(void *, void *, unsigned) = (void *)12;
static long (*loop)(unsigned, void *, void *, unsigned long) = (void *)181;
char licence[] SEC("license") = "%(licence)s";
static long step(unsigned i, void *ctx)
{
	char buffer[%(callback)d];

	return read_user(buffer, sizeof(buffer), ctx);
}
SEC("uprobe") int program(void *ctx)
{
	char buffer[%(bytes)d];

	if (%(tail)d && !ctx)
		tail_call(ctx, ctx, 0);
	loop(2, step, ctx, 0);
	return read_user(buffer, sizeof(buffer), ctx);
}
%(more)s
"""
PINNED = 'struct { int (*pinning)[1]; } map SEC(".maps");'


def run_on(tmp_path: Path, **change: object) -> subprocess.CompletedProcess[str]:
    values = {"licence": "GPL", "bytes": 16, "callback": 8, "tail": 0, "more": ""} | change
    source, built = tmp_path / "a.bpf.c", tmp_path / "a.bpf.o"
    source.write_text(PROGRAM % values)
    subprocess.run(["clang", "-g", "-O2", "-target", "bpf", "-c", source, "-o", built],
                   check=True)
    return subprocess.run(["python3", str(SCRIPT), str(built)], capture_output=True, text=True,
                          check=False)


def test_small_program_passes(tmp_path: Path) -> None:
    result = run_on(tmp_path, callback=0, bytes=8)
    # Two frames, each rounded to 32; the kernel's own bytes for bpf_loop are among them.
    assert "program: 64 bytes of stack, no tail call" in result.stdout
    assert result.returncode == 1
    assert run_on(tmp_path, callback=0, bytes=8, tail=1).returncode == 0


@pytest.mark.parametrize(("change", "reason"), [
    ({"bytes": 64}, "program: 128 bytes of stack and no tail call"),
    ({"callback": 200}, "program: 288 bytes of stack and no tail call"),
    ({"bytes": 300, "callback": 300, "tail": 1}, "672 bytes of stack, limit 512"),
    ({"tail": 1, "licence": "Proprietary"}, "licence 'Proprietary' is not compatible"),
    ({"tail": 1, "more": PINNED}, "a map is pinned"),
])
def test_each_fault_is_named(tmp_path: Path, change: dict[str, object], reason: str) -> None:
    result = run_on(tmp_path, **change)
    assert result.returncode == 1
    assert reason in result.stdout


def test_nothing_to_check_is_no_success(tmp_path: Path) -> None:
    assert subprocess.run(["python3", str(SCRIPT)], check=False).returncode == 1
