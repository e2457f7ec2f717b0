"""scripts/check_layers.py must notice what it is there for."""
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "check_layers.py"


def run_on(tmp_path: Path, files: dict[str, str]) -> subprocess.CompletedProcess[str]:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return subprocess.run(["python3", str(SCRIPT)], cwd=tmp_path, capture_output=True, text=True,
                          check=False)


def test_clean_tree_passes(tmp_path: Path) -> None:
    result = run_on(tmp_path, {"collector/a.c": '#include "probe/base/error.h"\n'})
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(("path", "text", "reason"), [
    ("probe/target/a.c", '#include "collector/broker.h"\n', "may not include collector"),
    ("analyzer/view/a.c", '#include "probe/engine/engine.h"\n', "may not include probe/engine"),
    ("collector/trace/a.c", '#include "collector/session.h"\n', "may not include collector"),
    ("analyzer/state/a.c", "#include <bpf/libbpf.h>\n", "may not use <bpf/libbpf.h>"),
    ("probe/base/a.c", '#include "error.h"\n', "not written from the top"),
    ("probe/base/a.c", "int f(void)\n{\n" + "\tg();\n" * 60 + "}\n", "function of 62 lines"),
    ("probe/base/a.c", "\n" * 601, "601 lines"),
    ("probe/cellar/a.c", "", "in no room"),
    ("analyzer/state/a.c", "#include <uthash.h>\n", "may not use <uthash.h>"),
    ("probe/base/a.h", "\n" * 151, "header of 151 lines"),
    ("rust/a.c", "", "not one of the top-level names"),
])
def test_each_fault_is_named(tmp_path: Path, path: str, text: str, reason: str) -> None:
    result = run_on(tmp_path, {path: text, "probe/base/b.c": "\n"})
    assert result.returncode == 1
    assert reason in result.stdout


def test_pages_name_only_what_exists(tmp_path: Path) -> None:
    result = run_on(tmp_path, {"README.md": "see `probe/gone.c` and [the page](docs/none.md)\n"})
    assert result.returncode == 1
    assert "README.md: names docs/none.md" in result.stdout
    assert "README.md: names probe/gone.c" in result.stdout
