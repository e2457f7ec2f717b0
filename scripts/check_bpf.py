#!/usr/bin/env python3
"""Fail on a kernel program against the rules for kernel programs (docs/architecture.md).

usage: check_bpf.py OBJECT.bpf.o...

- A program with 64 bytes of stack or more, its callbacks included, holds a tail call: without
  one, kernels from 6.13 on give it a per-CPU stack, which a preempting thread shares.
- The whole stack stays inside the kernel's 512 bytes.
- The licence lets it use the helpers that it uses; no map outlives its loader (pinning).
"""
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

PRIVATE_STACK_BYTES, STACK_MAX_BYTES = 64, 512
TAIL_CALL, LOOP = 12, 181  # numbers of the helpers bpf_tail_call and bpf_loop
LOOP_BYTES = 24  # of stack that the kernel adds to a function whose bpf_loop it inlines
LICENCES = {"GPL", "GPL v2", "GPL and additional rights", "Dual BSD/GPL", "Dual MIT/GPL",
            "Dual MPL/GPL"}
CODE_SECTIONS_NOT_PROGRAMS = {".text"}

SYMBOL = re.compile(r"^([0-9a-f]{16}) (.)..... ?F (\S+)\s+([0-9a-f]{16}) (\S+)$")
SECTION = re.compile(r"^Disassembly of section (\S+):$")
INSTRUCTION = re.compile(r"^\s*(\d+):\s+(.*)$")
RELOCATION = re.compile(r"^\s*[0-9a-f]{16}:\s+(R_BPF_\S+)\s+(\S+)$")


@dataclass
class Function:
    name: str
    section: str
    start: int
    size: int
    stack: int = 0
    tail_call: bool = False
    loop: bool = False
    calls: set[tuple[str, int]] = field(default_factory=set)  # section, address
    call_names: set[str] = field(default_factory=set)


def objdump(path: str, *options: str) -> list[str]:
    return subprocess.run(["llvm-objdump", *options, path], check=True, capture_output=True,
                          text=True).stdout.splitlines()


def functions_of(path: str) -> list[Function]:
    found = []
    for line in objdump(path, "-t"):
        m = SYMBOL.match(line)
        if m:
            found.append(Function(m[5], m[3], int(m[1], 16), int(m[4], 16)))
    return found


def look_at(function: Function, text: str, copies: set[str]) -> None:
    """What one instruction says: stack used, calls. @copies: registers that hold r10."""
    for offset in re.findall(r"\(r10 - (\d+)\)", text):
        function.stack = max(function.stack, int(offset))
    if m := re.match(r"(r\d) = r10$", text):
        copies.add(m[1])
    elif m := re.match(r"(r\d) \+= (-\d+)$", text):
        if m[1] in copies:
            function.stack = max(function.stack, -int(m[2]))
            copies.discard(m[1])
    elif m := re.match(r"(r\d) = ", text):
        copies.discard(m[1])
    elif m := re.match(r"call (\d+)$", text):
        function.tail_call |= int(m[1]) == TAIL_CALL
        function.loop |= int(m[1]) == LOOP


def note_relocation(function: Function, target: str, text: str) -> None:
    """A reference to code: a callback's address, or a call of another function."""
    if m := re.match(r"r\d = (\d+) ll$", text):
        function.calls.add((target, int(m[1])))
    elif m := re.match(r"call (-?\d+)$", text):
        function.calls.add((target, (int(m[1]) + 1) * 8))
    function.call_names.add(target)


def read_object(path: str) -> list[Function]:
    functions = functions_of(path)
    section, function, text = "", None, ""
    copies: set[str] = set()
    for line in objdump(path, "-d", "-r", "--no-show-raw-insn"):
        if m := SECTION.match(line):
            section = m[1]
        elif m := RELOCATION.match(line):  # before instructions: both begin with digits
            if function:
                note_relocation(function, m[2], text)
        elif m := INSTRUCTION.match(line):
            address, text = int(m[1]) * 8, m[2]
            inside = next((f for f in functions if f.section == section
                           and f.start <= address < f.start + f.size), None)
            if inside is not function:
                function, copies = inside, set()
            if function:
                look_at(function, text, copies)
    return functions


def whole_stack(function: Function, functions: list[Function], seen: tuple[str, ...] = ()) -> int:
    """Bytes of the deepest chain of calls, each frame rounded as kernels before 6.8 do."""
    if function.name in seen:
        raise ValueError(f"{function.name} calls itself")
    own = function.stack + (LOOP_BYTES if function.loop else 0)
    own = (max(own, 1) + 31) // 32 * 32
    below = 0
    for callee in functions:
        if (callee.section, callee.start) in function.calls or callee.name in function.call_names:
            below = max(below, whole_stack(callee, functions, (*seen, function.name)))
    return own + below


def licence_of(path: str) -> str:
    text = bytearray()
    for line in objdump(path, "-s", "-j", "license"):
        if m := re.match(r"^ [0-9a-f]{4,8} ((?:[0-9a-f]{2,8} ){1,4})", line):
            text += bytes.fromhex(m[1])
    return text.rstrip(b"\0").decode(errors="replace")


def check(path: str) -> list[str]:
    problems = []
    licence = licence_of(path)
    if licence not in LICENCES:
        problems.append(f"{path}: licence '{licence}' is not compatible with the GPL")
    if b"\0pinning\0" in Path(path).read_bytes():
        problems.append(f"{path}: a map is pinned: it would outlive its loader")
    functions = read_object(path)
    programs = [f for f in functions if f.section not in CODE_SECTIONS_NOT_PROGRAMS]
    if not programs:
        problems.append(f"{path}: no program in it")
    for program in programs:
        stack = whole_stack(program, functions)
        print(f"check-bpf: {program.name}: {stack} bytes of stack, "
              f"{'a' if program.tail_call else 'no'} tail call")
        if stack >= PRIVATE_STACK_BYTES and not program.tail_call:
            problems.append(f"{path}: {program.name}: {stack} bytes of stack and no tail call")
        if stack > STACK_MAX_BYTES:
            problems.append(f"{path}: {program.name}: {stack} bytes of stack, limit "
                            f"{STACK_MAX_BYTES}")
    return problems


def main() -> int:
    problems = [p for path in sys.argv[1:] for p in check(path)]
    for problem in problems:
        print(f"check-bpf: {problem}")
    print(f"check-bpf: {len(sys.argv) - 1} objects, {len(problems)} problems")
    return 1 if problems or len(sys.argv) < 2 else 0


if __name__ == "__main__":
    sys.exit(main())
