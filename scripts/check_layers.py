#!/usr/bin/env python3
"""Fail on an include against the architecture, and on a file or function over its limit.

The rooms and the arrows are docs/architecture.md, "Rooms", as data. A room may include itself
and what it names; system headers are free, except those of the libraries that belong to one
room (a kernel-probing library has no business in a view).
"""
import re
import subprocess
import sys
from pathlib import Path

# room -> rooms it may include. The longest matching prefix of a path is its room.
ARROWS: dict[str, set[str]] = {
    "probe/base": set(),
    "probe/abi": set(),
    "probe/bpf": {"probe/abi"},
    "probe/agent": {"probe/abi"},
    "probe/target": {"probe/base"},
    "probe/attach": {"probe/abi", "probe/target", "probe/base"},
    "probe/engine": {"probe/abi", "probe/target", "probe/attach", "probe/base"},
    "collector/trace": {"probe/base"},
    "collector": {"probe/abi", "probe/target", "probe/attach", "probe/engine", "probe/base",
                  "probe/bpf", "collector/trace"},
    "analyzer/state": {"collector/trace", "probe/base"},
    "analyzer/metric": {"analyzer/state", "collector/trace", "probe/base"},
    "analyzer/task": {"analyzer/state", "analyzer/metric", "collector/trace", "probe/base"},
    "analyzer/view": {"analyzer/state", "analyzer/metric", "analyzer/task", "collector/trace",
                      "probe/base"},
    "analyzer/import": {"collector/trace", "probe/base"},
    "analyzer": {"analyzer/state", "analyzer/metric", "analyzer/task", "analyzer/view",
                 "analyzer/import", "collector/trace", "probe/base"},
}

# A library's headers and the rooms that may use them.
LIBRARIES: dict[str, set[str]] = {
    r"^bpf/": {"probe/bpf", "probe/attach", "collector"},
    r"^(libelf|gelf|elfutils/.*|dwarf)\.h$|^elfutils/": {"probe/target"},
    r"^Zydis/": {"probe/attach"},
    r"^(curses|ncurses|ncursesw/.*)\.h$|^ncursesw/": {"analyzer/view"},
    r"^json-c/": {"probe/target", "analyzer/view", "analyzer"},
    r"^nettle/": {"probe/target"},
    r"^uthash\.h$": {"probe/base"},  # by probe/base/hash.h, where it does not end the program
}

TOP_LEVEL = {"Makefile", "README.md", "probe", "collector", "analyzer", "scripts", "tests", "docs"}
FILE_LINES, HEADER_LINES, FUNCTION_LINES, MAIN_LINES = 600, 150, 60, 40
# Contracts that are lists or wire layouts: their length is their content.
LONG_HEADERS = {"collector/trace/records.h", "probe/abi/site.h", "probe/abi/event.h",
                "probe/engine/sink.h"}
INCLUDE = re.compile(r'^\s*#\s*include\s+([<"])([^>"]+)[>"]', re.M)


def room_of(path: str) -> str | None:
    rooms = [r for r in ARROWS if path.startswith(r + "/")]
    return max(rooms, key=len, default=None)


def check_includes(path: str, text: str) -> list[str]:
    room = room_of(path)
    if room is None:
        is_ours = path.split("/")[0] in ("probe", "collector", "analyzer")
        return [f"{path}: in no room of the architecture"] if is_ours else []
    found = []
    for kind, name in INCLUDE.findall(text):
        if kind == '"':
            other = room_of(name)
            if other is None:
                found.append(f'{path}: "{name}" is not written from the top of the tree')
            elif other != room and other not in ARROWS[room]:
                found.append(f"{path}: {room} may not include {other} ({name})")
            continue
        for pattern, rooms in LIBRARIES.items():
            if re.search(pattern, name) and room not in rooms:
                found.append(f"{path}: {room} may not use <{name}>")
    return found


def check_lengths(path: str, text: str) -> list[str]:
    lines = text.split("\n")
    found = []
    if len(lines) - 1 > FILE_LINES:
        found.append(f"{path}: {len(lines) - 1} lines, limit {FILE_LINES}")
    is_contract = path.endswith(".h") and not path.endswith(".bpf.h") and room_of(path)
    if is_contract and path not in LONG_HEADERS and len(lines) - 1 > HEADER_LINES:
        found.append(f"{path}: header of {len(lines) - 1} lines, limit {HEADER_LINES}")
    if not path.endswith(".c"):
        return found
    start = None
    for number, line in enumerate(lines, 1):
        if line == "{":
            start = number
        elif line == "}" and start is not None:
            length = number - start + 1
            is_main = any(re.match(r"int main\(", l) for l in lines[max(0, start - 4):start])
            limit = MAIN_LINES if is_main else FUNCTION_LINES
            if length > limit:
                found.append(f"{path}:{start}: function of {length} lines, limit {limit}")
            start = None
    return found


def missing_paths(tracked: list[str]) -> list[str]:
    """Paths that the README and docs name in backquotes or links, and that do not exist."""
    found = []
    for page in [f for f in tracked if f == "README.md" or re.fullmatch(r"docs/[^/]+\.md", f)]:
        text = Path(page).read_text(encoding="utf-8")
        named = re.findall(r"`((?:probe|collector|analyzer|scripts|tests|docs)/[\w./-]+)`", text)
        named += [str(Path(page).parent / link) for link in re.findall(r"\]\(([\w./-]+)\)", text)]
        found += [f"{page}: names {name}, which does not exist"
                  for name in sorted(set(named)) if not Path(name).exists()]
    return found


def main() -> int:
    tracked = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"],
                             capture_output=True, text=True, check=True).stdout.split()
    problems = []
    for top in sorted({f.split("/")[0] for f in tracked}):
        if not top.startswith(".") and top not in TOP_LEVEL:
            problems.append(f"{top}: not one of the top-level names")
    problems += missing_paths(tracked)
    checked = 0
    for path in tracked:
        if not path.endswith((".c", ".h", ".py")) or not Path(path).exists():
            continue
        text = Path(path).read_text(encoding="utf-8")
        checked += 1
        if path.endswith(".py"):
            problems += check_lengths(path, text)
        else:
            problems += check_includes(path, text) + check_lengths(path, text)
    for problem in problems:
        print(f"check-layers: {problem}")
    print(f"check-layers: {checked} files, {len(problems)} problems")
    return 1 if problems or not checked else 0


if __name__ == "__main__":
    sys.exit(main())
