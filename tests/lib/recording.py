# SPDX-License-Identifier: BSD-2-Clause
"""Reads recordings: a second reader, written from docs/trace-format.md alone, so that document,
writer and analysis cannot be wrong in the same way."""
from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import zstandard

UNKNOWN = 0xFFFFFFFF
UNKNOWN_64 = 0xFFFFFFFFFFFFFFFF
BLOCK_MAX = 16 << 20
HEAD = struct.Struct("<HHIQII")  # type, fixed, size, time_ns, source, flags

FROM_FILE = BEFORE_ATTACH = TOKENS = GATE = TIE = 1
ORDINALS = 2
OUTPUT, PADDING, DRAFT, REJECTED, FINISHED = 1, 2, 4, 8, 16
(ALL_ROWS, WEIGHTS, IDS_16, INFERRED, RAW, PHYSICAL, LOCAL, ROW_FLAGS,
 NO_CHOICE) = (1 << i for i in range(9))
NO_EXPERT = -1  # what this reader makes of an id that names none
PREFILL, DECODE = 0, 1
MISSING = ("cached", "not_computed", "lost", "invalid", "before_attach", "not_routed",
           "after_detach", "governor")
STOPS = ("unknown", "asked", "duration", "target_exit", "target_exec", "failed", "output")

Fields = dict[str, Any]


class Damaged(Exception):
    """The bytes are not a stream of this version, or break off badly; says where."""


@dataclass(frozen=True)
class Column:
    name: str
    kind: str  # numpy type, or "text"
    length: Callable[[Fields, int], int]  # entries, from the fixed part and the flags


def text(name: str) -> Column:
    return Column(name, "text", lambda fields, flags: fields[name + "_length"])


def count(name: str, kind: str, length: str) -> Column:
    return Column(name, kind, lambda fields, flags: fields[length])


@dataclass(frozen=True)
class Layout:
    """The fixed part behind the head as struct format and field names ("-": ignored)."""

    name: str
    format: str
    names: str
    columns: tuple[Column, ...] = ()
    flags: int = 0  # that are known


def when(flag: int, name: str, kind: str, length: str) -> Column:
    return Column(name, kind, lambda fields, flags: fields[length] if flags & flag else 0)


RAW = 16  # of a route: weights are scores as they were chosen by
ROUTE_COLUMNS = (
    Column("row", "<u4", lambda f, flags: 0 if flags & ALL_ROWS else f["rows"]),
    Column("ids_8", "u1", lambda f, flags: 0 if flags & IDS_16 else f["rows"] * f["k"]),
    Column("ids_16", "<u2", lambda f, flags: f["rows"] * f["k"] if flags & IDS_16 else 0),
    Column("weights", "<f4", lambda f, flags: f["rows"] * f["k"] if flags & WEIGHTS else 0),
    when(ROW_FLAGS, "row_flags", "u1", "rows"),
)
LAYOUTS = {
    1: Layout("source", "IHH", "id tool_length host_length", (text("tool"), text("host"))),
    2: Layout("process", "IIIIQQ20sHHHHIII",
              "process pid parent rank_tensor start_ticks pid_namespace_inode build_id "
              "engine_length version_length command_length role_length rank_pipeline rank_data "
              "rank_expert",
              (text("engine"), text("version"), text("command"), text("role"))),
    3: Layout("context", "IIQQII", "context process key model_key replica_of -"),
    4: Layout("model", "IIIIIIIIHHHHIIIf32s32sH3H",
              "context layers experts k shared_experts vocabulary blocks normalised "
              "architecture_length name_length path_length quantisation_length gate groups "
              "groups_used scale model_digest tokenizer_digest kv_type_length - - -",
              (count("layer_ids", "<u2", "layers"), text("architecture"), text("name"),
               text("path"), text("quantisation"), text("kv_type")), FROM_FILE | ORDINALS),
    5: Layout("sequence", "IIII", "sequence context slot epoch"),
    6: Layout("bind", "IIIIII", "sequence request position certainty origin -"),
    7: Layout("request_begin", "IIIIIIIIQH3HffII",
              "request context sequence slot task cached prompt prompt_known begin_ns "
              "client_id_length - - - temperature top_p top_k max_tokens",
              (text("client_id"), count("tokens", "<i4", "prompt_known")), BEFORE_ATTACH),
    8: Layout("request_end", "IIIIIIII",
              "request ending rows tokens finish certainty prompt generated"),
    9: Layout("step", "QQQIIIIQ", "step begin_ns end_ns context rows ubatch ubatches batch",
              (count("sequence", "<u4", "rows"), count("request", "<u4", "rows"),
               count("position", "<u4", "rows"), count("phase", "u1", "rows"),
               count("row_flags", "u1", "rows"), when(TOKENS, "token", "<i4", "rows")), TOKENS),
    10: Layout("route", "QIIII", "step context layer rows k", ROUTE_COLUMNS, 511),
    12: Layout("clock", "QQQ", "monotonic_ns boot_ns real_ns"),
    13: Layout("loss", "IIQQQQ", "cause context count rows decisions since_ns"),
    14: Layout("invalid", "IIQ", "cause - count"),
    15: Layout("cost", "QQQQQII",
               "interval_ns hits hit_ns collector_cpu_ns resident_bytes threads slowdown_ppm"),
    16: Layout("coverage", "IIQQII", "request layer expected seen causes context",
               (count("missing", "<u8", "causes"),)),
    17: Layout("end", "IIQQQQQQQ",
               "stop - records steps rows routes decisions lost invalid"),
    18: Layout("counts", "IIIIIIIIII",
               "request context layer phase rows experts first_position k sequence "
               "last_position",
               (count("count", "<u4", "experts"), when(GATE, "gate", "<f4", "experts")),
               GATE | PHYSICAL | LOCAL),
    19: Layout("finding", "IIHHHH",
               "status pid area_length name_length value_length remedy_length",
               (text("area"), text("name"), text("value"), text("remedy"))),
    20: Layout("request_info", "IIIHHHHHH",
               "request certainty origin client_id_length request_id_length trace_id_length "
               "adapter_length labels_length -",
               (text("client_id"), text("request_id"), text("trace_id"), text("adapter"),
                text("labels"))),
    21: Layout("window", "QQdII", "begin_ns end_ns inclusion reason context"),
}


@dataclass
class Record:
    """One record: fixed fields and columns by name."""

    type: str
    time_ns: int
    source: int
    flags: int
    fields: dict[str, Any]
    columns: dict[str, Any] = field(default_factory=dict)


def padded(size: int) -> int:
    return (size + 7) & ~7


def columns_of(layout: Layout, body: bytes, fixed: int, fields: Fields,
               flags: int) -> tuple[dict[str, Any], int]:
    """The columns, and where they end."""
    columns: dict[str, Any] = {}
    place = fixed
    for column in layout.columns:
        entries = column.length(fields, flags)
        kind = np.dtype("u1" if column.kind == "text" else column.kind)
        size = entries * kind.itemsize
        if place + size > len(body):
            raise Damaged(f"{layout.name}: column {column.name} does not fit")
        part = body[place:place + size]
        columns[column.name] = (part.decode(errors="replace") if column.kind == "text"
                                else np.frombuffer(part, kind))
        place += padded(size)
    return columns, place


def record_of(body: bytes) -> Record | None:
    """One record from its bytes; None if its type is unknown."""
    kind, fixed, size, time_ns, source, flags = HEAD.unpack_from(body)
    layout = LAYOUTS.get(kind)
    if layout is None:
        return None
    shape = struct.Struct("<" + layout.format)
    if fixed < HEAD.size + shape.size or fixed % 8 or fixed > size:
        raise Damaged(f"{layout.name}: fixed part of {fixed} bytes")
    values = shape.unpack_from(body, HEAD.size)
    fields = {name: value for name, value in zip(layout.names.split(), values, strict=True)
              if name != "-"}
    columns, end = columns_of(layout, body, fixed, fields, flags)
    if end > size or (end < size and fixed == HEAD.size + shape.size
                      and not flags & ~layout.flags):
        raise Damaged(f"{layout.name}: {size} bytes instead of {end}")
    if layout.name == "coverage":
        missing = [int(number) for number in columns["missing"]]
        fields.update(zip(MISSING, missing + [0] * len(MISSING)))
    if layout.name == "route":
        ids = columns.pop("ids_16" if flags & IDS_16 else "ids_8")
        columns.pop("ids_8" if flags & IDS_16 else "ids_16")
        named = ids.reshape(fields["rows"], fields["k"]).astype(np.int64)
        if flags & NO_CHOICE:
            named[named == (0xFFFF if flags & IDS_16 else 0xFF)] = NO_EXPERT
        columns["ids"] = named
        if flags & WEIGHTS:
            columns["weights"] = columns["weights"].reshape(fields["rows"], fields["k"])
        if flags & ALL_ROWS:
            columns["row"] = np.arange(fields["rows"])
    return Record(layout.name, time_ns, source, flags, fields, columns)


def records_of(decoded: bytes, announced: int) -> Iterator[Record]:
    """The records of one decoded block."""
    place = number = 0
    while place < len(decoded):
        if len(decoded) - place < HEAD.size:
            raise Damaged("rest of a block too small for a record")
        size = HEAD.unpack_from(decoded, place)[2]
        if size < HEAD.size or size % 8 or size > len(decoded) - place:
            raise Damaged(f"record of {size} bytes")
        record = record_of(decoded[place:place + size])
        if record is not None:
            yield record
        place, number = place + size, number + 1
    if number != announced:
        raise Damaged(f"{number} records in a block of {announced}")


def check_file_header(data: bytes) -> int:
    """Where the first block begins."""
    if len(data) < 32 or data[:8] != b"moeprobe":
        raise Damaged("not a recording")
    version, size, endian, _, crc, _ = struct.unpack_from("<HHIQII", data, 8)
    if version != 1 or endian != 0x01020304 or not 32 <= size <= 4096 or size > len(data):
        raise Damaged(f"version {version}, header of {size} bytes")
    if zlib.crc32(data[:24] + bytes(4) + data[28:size]) != crc:
        raise Damaged("CRC of the file header")
    return int(size)


def block_at(data: bytes, place: int) -> tuple[list[Record], int] | None:
    """The records of the block at @place and where the next one begins; None: cut off."""
    if len(data) - place < 40:
        return None
    magic, size, codec, stored, decoded_size, crc, number, first, last = struct.unpack_from(
        "<IHHIIIIQQ", data, place)
    if magic != 0x4B4C424D or not 40 <= size <= 4096 or max(stored, decoded_size) > BLOCK_MAX:
        raise Damaged(f"no block at byte {place}")
    if place + size + stored > len(data):
        return None
    header = data[place:place + size]
    content = data[place + size:place + size + stored]
    if zlib.crc32(content, zlib.crc32(header[:16] + bytes(4) + header[20:])) != crc:
        raise Damaged(f"CRC of the block at byte {place}")
    if codec == 1:
        content = zstandard.ZstdDecompressor().decompress(content, decoded_size)
    elif codec != 0:
        raise Damaged(f"codec {codec} at byte {place}")
    if len(content) != decoded_size:
        raise Damaged(f"block at byte {place} decodes to {len(content)} bytes")
    records = list(records_of(content, number))
    for record in records:
        if not first <= record.time_ns <= last:
            raise Damaged(f"block at byte {place}: {record.type} outside of its time range")
    return records, place + size + stored


@dataclass
class Recording:
    """All records of a stream, and whether it is complete."""

    records: list[Record]
    complete: bool

    def of(self, *types: str) -> list[Record]:
        return [record for record in self.records if record.type in types]

    def one(self, type_name: str) -> Record:
        """The last record of a type, which must exist."""
        found = self.of(type_name)
        if not found:
            raise LookupError(f"no {type_name} in the recording")
        return found[-1]

    @property
    def lost(self) -> int:
        return sum(record.fields["count"] for record in self.of("loss"))


def read(path: Path) -> Recording:
    """Read a whole file. A cut-off file gives what came before the cut."""
    data = path.read_bytes()
    place = check_file_header(data)
    records: list[Record] = []
    while place < len(data):
        block = block_at(data, place)
        if block is None:
            return Recording(records, False)
        records += block[0]
        place = block[1]
    return Recording(records, any(record.type == "end" for record in records))


@dataclass
class Request:
    """One request of a recording: its rows in the order in which they were computed."""

    begin: Record
    end: Record | None = None
    coverage: list[Record] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)  # client_id, request_id, ..., labels
    labels: dict[str, str] = field(default_factory=dict)
    position: list[int] = field(default_factory=list)
    token: list[int] = field(default_factory=list)
    phase: list[int] = field(default_factory=list)
    output: list[bool] = field(default_factory=list)
    step: list[int] = field(default_factory=list)
    # layer -> index into the lists above -> ids, weights
    routes: dict[int, dict[int, tuple[Any, Any]]] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        return len(self.position)

    @property
    def client_id(self) -> str:
        """The last word on it."""
        return self.names.get("client_id") or str(self.begin.columns["client_id"])

    @property
    def before_attach(self) -> bool:
        return bool(self.begin.flags & BEFORE_ATTACH)

    @property
    def tokens(self) -> list[int]:
        """Prompt as far as it is known, then the tokens of later rows."""
        prompt = [int(token) for token in self.begin.columns["tokens"]]
        later = dict(zip(self.position, self.token, strict=True))  # some are computed again
        return prompt + [later[position] for position in sorted(later)
                         if position >= len(prompt)]


class Picture:
    """The recording joined: requests with rows, rows with routes."""

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self.requests: dict[int, Request] = {}
        self.sequences: dict[int, Record] = {}
        self.unknown_rows = self.early_rows = 0
        self.decisions = self.early_decisions = 0
        self.padding = 0  # decisions of padding: of these
        self._places: dict[tuple[int, int], list[tuple[Request, int] | None]] = {}
        self._padded: dict[tuple[int, int], set[int]] = {}  # rows of a step
        self._model_keys: dict[int, int] = {}  # of contexts
        # Rows of a batch that another part of the model said: request, position -> place
        self._batches: dict[tuple[int, int], dict[tuple[int, int], tuple[Request, int]]] = {}
        # sequence -> where in the stream, from which position, whose
        self._binds: dict[int, list[tuple[int, int, int]]] = {}
        for number, record in enumerate(recording.records):
            record.fields["place"] = number
            if record.type == "bind":
                self._binds.setdefault(record.fields["sequence"], []).append(
                    (number, record.fields["position"], record.fields["request"]))
            elif record.type == "request_begin":  # a BIND gives it rows that came before it
                self._begin(record)
        for record in recording.records:
            handler = getattr(self, "_" + record.type, None)
            if handler:
                handler(record)

    def _sequence(self, record: Record) -> None:
        self.sequences[record.fields["sequence"]] = record

    def _begin(self, record: Record) -> None:
        number = record.fields["request"]
        if number in self.requests:
            raise Damaged(f"request {number} begins twice")
        self.requests[number] = Request(record)

    def _request_end(self, record: Record) -> None:
        self.requests[record.fields["request"]].end = record

    def _request_info(self, record: Record) -> None:
        request = self.requests[record.fields["request"]]
        request.names.update({name: value for name, value in record.columns.items() if value})
        for line in record.columns["labels"].splitlines():
            key, _, value = line.partition("=")
            request.labels[key] = value

    def _coverage(self, record: Record) -> None:
        if record.fields["request"]:
            self.requests[record.fields["request"]].coverage.append(record)

    def _owner(self, record: Record, row: int) -> int:
        """The request of a row: what STEP says, unless a BIND knows better."""
        said = int(record.columns["request"][row])
        position = int(record.columns["position"][row])
        if record.columns["row_flags"][row] & (PADDING | FINISHED):
            return UNKNOWN
        before = after = None
        for place, begin, request in self._binds.get(int(record.columns["sequence"][row]), []):
            if begin <= position and place > record.fields["place"]:
                after = request
            elif begin <= position:
                before = request
        if after is not None:
            return after
        return before if said == UNKNOWN and before is not None else said

    def _context(self, record: Record) -> None:
        self._model_keys[record.fields["context"]] = record.fields["model_key"]

    def _joined(self, record: Record) -> bool:
        """True if another part of the model has said these rows, which are counted there."""
        key = self._model_keys.get(record.fields["context"], 0)
        if not key or record.fields["batch"] == UNKNOWN_64:
            return False
        rows = self._batches.get((key, record.fields["batch"]))
        if rows is None:
            self._batches[key, record.fields["batch"]] = {}
            return False
        place = record.fields["context"], record.fields["step"]
        self._padded[place], self._places[place] = set(), []
        for row in range(record.fields["rows"]):
            number = self._owner(record, row), int(record.columns["position"][row])
            if number[0] != UNKNOWN and number not in rows:
                raise Damaged(f"batch {record.fields['batch']}: rows differ")
            self._places[place].append(rows.get(number))
        return True

    def _step(self, record: Record) -> None:
        if self._joined(record):
            return
        batch = self._batches.get((self._model_keys.get(record.fields["context"], 0),
                                   record.fields["batch"]), {})
        places: list[tuple[Request, int] | None] = []
        token = record.columns["token"]
        padded = {row for row in range(record.fields["rows"])
                  if record.columns["row_flags"][row] & PADDING}
        for row in range(record.fields["rows"]):
            if row in padded:
                places.append(None)
                continue
            sequence = int(record.columns["sequence"][row])
            if sequence not in self.sequences and sequence != UNKNOWN:
                raise Damaged("a row of a sequence that was not said")
            number = self._owner(record, row)
            if number == UNKNOWN:
                # Of what began before the capture nobody may know even the sequence.
                early = sequence == UNKNOWN and not self.sequences
                self.early_rows += early
                self.unknown_rows += not early
                places.append(None)
                continue
            request = self.requests[number]
            places.append((request, request.rows))
            batch[number, int(record.columns["position"][row])] = request, request.rows
            request.position.append(int(record.columns["position"][row]))
            request.phase.append(int(record.columns["phase"][row]))
            request.output.append(bool(record.columns["row_flags"][row] & OUTPUT))
            request.step.append(record.fields["step"])
            request.token.append(int(token[row]) if len(token) else -1)
        self._places[record.fields["context"], record.fields["step"]] = places
        self._padded[record.fields["context"], record.fields["step"]] = padded

    def _route(self, record: Record) -> None:
        places = self._places[record.fields["context"], record.fields["step"]]
        padded = self._padded[record.fields["context"], record.fields["step"]]
        weights = record.columns["weights"]
        for entry, row in enumerate(record.columns["row"]):
            self.decisions += 1
            self.padding += int(row) in padded
            place = places[int(row)]
            if place is None:
                self.early_decisions += not self.sequences
                continue
            request, index = place
            layer = request.routes.setdefault(record.fields["layer"], {})
            if index in layer:
                raise Damaged("a row is routed twice in a layer")
            layer[index] = (record.columns["ids"][entry],
                            weights[entry] if len(weights) else None)

    @property
    def layers(self) -> list[int]:
        """Of all parts of the model."""
        parts = {record.fields["context"]: record.columns["layer_ids"]
                 for record in self.recording.of("model")}
        return sorted({int(layer) for ids in parts.values() for layer in ids})
