"""Tiny model files made on the spot: ONNX by the `onnx` package, TFLite by a small FlatBuffers writer of its own."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

# ---- ONNX


def onnx_bytes(
    nodes: Sequence[Any],
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    weights: dict[str, np.ndarray] | None = None,
    *,
    opsets: dict[str, int] | None = None,
    ir_version: int = 8,
) -> bytes:
    """A model of these nodes; nodes, inputs and outputs are made with onnx.helper."""
    onnx = pytest.importorskip("onnx")
    constants = [onnx.numpy_helper.from_array(array, name) for name, array in (weights or {}).items()]
    graph = onnx.helper.make_graph(nodes, "graph", inputs, outputs, constants)
    imports = [onnx.helper.make_opsetid(d, v) for d, v in (opsets or {"": 17}).items()]
    model = onnx.helper.make_model(graph, opset_imports=imports, ir_version=ir_version, producer_name="edgekit tests")
    return bytes(model.SerializeToString())


def info(name: str, shape: Sequence[int | str | None], kind: str = "FLOAT") -> Any:
    """A ValueInfoProto."""
    onnx = pytest.importorskip("onnx")
    return onnx.helper.make_tensor_value_info(name, getattr(onnx.TensorProto, kind), list(shape))


def node(op: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> Any:
    """A NodeProto."""
    return pytest.importorskip("onnx").helper.make_node(op, list(inputs), list(outputs), **attributes)


def affine_onnx(path: Path, *, width: int = 4, rows: int | str = "rows") -> Path:
    """y = x @ w + b with w = 2 on the diagonal and b = 0, 1, 2, ...; x, y: float32 (rows, width)."""
    weights = {"w": 2 * np.eye(width, dtype=np.float32), "b": np.arange(width, dtype=np.float32)}
    nodes = [node("MatMul", ["x", "w"], ["p"]), node("Add", ["p", "b"], ["y"])]
    path.write_bytes(onnx_bytes(nodes, [info("x", [rows, width])], [info("y", [rows, width])], weights))
    return path


def counter_onnx(path: Path, *, size: int = 3) -> Path:
    """state_out = state + x; y = 2 * state_out; all float32 (1, size)."""
    shape = [1, size]
    nodes = [node("Add", ["state", "x"], ["state_out"]), node("Mul", ["state_out", "two"], ["y"])]
    data = onnx_bytes(
        nodes,
        [info("x", shape), info("state", shape)],
        [info("y", shape), info("state_out", shape)],
        {"two": np.array([2], np.float32)},
    )
    path.write_bytes(data)
    return path


def cache_onnx(path: Path) -> Path:
    """present = past with x appended on axis 1; total = its sum over that axis. past: float32 (1, n, 2), n from 0."""
    nodes = [
        node("Concat", ["past", "x"], ["present"], axis=1),
        node("ReduceSum", ["present", "axes"], ["total"], keepdims=0),
    ]
    data = onnx_bytes(
        nodes,
        [info("x", [1, "new", 2]), info("past", [1, "past", 2])],
        [info("total", [1, 2]), info("present", [1, "now", 2])],
        {"axes": np.array([1], np.int64)},
    )
    path.write_bytes(data)
    return path


def big_onnx(path: Path, *, layers: int, width: int = 1024, data: str | None = None) -> Path:
    """`layers` products with a width x width float32 matrix; data: the file beside it that holds the weights."""
    onnx = pytest.importorskip("onnx")
    rng = np.random.default_rng(1)
    nodes = [node("MatMul", [f"x{i}", f"w{i}"], [f"x{i + 1}"]) for i in range(layers)]
    weights = {f"w{i}": rng.standard_normal((width, width), np.float32) / 32 for i in range(layers)}
    model = onnx.load_from_string(
        onnx_bytes(nodes, [info("x0", [1, width])], [info(f"x{layers}", [1, width])], weights)
    )
    if data is None:
        onnx.save(model, path)
    else:
        onnx.save(model, path, save_as_external_data=True, location=data, size_threshold=0)
    return path


# ---- FlatBuffers


class Scalar:
    """A number inside a table; `form` is struct's letter."""

    def __init__(self, form: str, value: float) -> None:
        self.form, self.value = form, value


class Vector:
    """A list of numbers."""

    def __init__(self, form: str, values: Sequence[float] | bytes) -> None:
        self.form, self.values = form, values


Table = dict[int, Any]
"""Field number -> Scalar, Vector, str, Table or a list of Tables."""


def flatbuffer(root: Table, identifier: bytes) -> bytes:
    """The bytes of a table and all below it."""
    out = bytearray(struct.pack("<I4s", 0, identifier))
    struct.pack_into("<I", out, 0, _put_table(out, root))
    return bytes(out)


def _align(out: bytearray, size: int, ahead: int = 0) -> None:
    out.extend(bytes(-(len(out) + ahead) % size))


def _put(out: bytearray, value: Any) -> int:
    if isinstance(value, dict):
        return _put_table(out, value)
    if isinstance(value, str):
        _align(out, 4)
        at = len(out)
        out.extend(struct.pack("<I", len(value.encode())) + value.encode() + b"\0")
        return at
    if isinstance(value, Vector):
        raw = (
            value.values
            if isinstance(value.values, bytes)
            else struct.pack(f"<{len(value.values)}{value.form}", *value.values)
        )
        _align(out, 16 if isinstance(value.values, bytes) else max(4, struct.calcsize("<" + value.form)), 4)
        at = len(out)
        out.extend(struct.pack("<I", len(value.values)))
        out.extend(raw)
        return at
    _align(out, 4)
    at = len(out)
    out.extend(struct.pack("<I", len(value)) + bytes(4 * len(value)))
    placed: dict[int, int] = {}  # one object several times in a list is written once
    for i, item in enumerate(value):
        slot = at + 4 + 4 * i
        if id(item) not in placed:
            placed[id(item)] = _put(out, item)
        struct.pack_into("<I", out, slot, placed[id(item)] - slot)
    return at


def _put_table(out: bytearray, table: Table) -> int:
    offsets, size = [0] * (max(table, default=-1) + 1), 4
    for field, value in table.items():
        width = struct.calcsize("<" + value.form) if isinstance(value, Scalar) else 4
        size += -size % width
        offsets[field] = size
        size += width
    _align(out, 8)
    vtable = len(out)
    out.extend(struct.pack(f"<{2 + len(offsets)}H", 4 + 2 * len(offsets), size, *offsets))
    _align(out, 8)
    at = len(out)
    out.extend(struct.pack("<i", at - vtable) + bytes(size - 4))
    for field, value in table.items():
        slot = at + offsets[field]
        if isinstance(value, Scalar):
            struct.pack_into("<" + value.form, out, slot, value.value)
        else:
            struct.pack_into("<I", out, slot, _put(out, value) - slot)
    return at


# ---- TFLite (field numbers of schema.fbs)

TFLITE_TYPES = {"float32": 0, "int32": 2, "uint8": 3, "int64": 4, "int16": 7, "int8": 9}
ADD, FULLY_CONNECTED, CUSTOM, RNN = 0, 9, 32, 24


def tensor(
    name: str,
    shape: Sequence[int],
    dtype: str = "float32",
    *,
    signature: Sequence[int] | None = None,
    scale: Sequence[float] = (),
    zero_point: Sequence[int] = (),
    axis: int = 0,
    variable: bool = False,
    data: np.ndarray | None = None,
) -> dict[str, Any]:
    """A tensor for `tflite_bytes`; with data it is a constant."""
    table: Table = {0: Vector("i", shape), 1: Scalar("b", TFLITE_TYPES[dtype]), 3: name}
    if scale:
        table[4] = {2: Vector("f", scale), 3: Vector("q", zero_point), 6: Scalar("i", axis)}
    if variable:
        table[5] = Scalar("B", 1)
    if signature is not None:
        table[7] = Vector("i", signature)
    return {"table": table, "data": None if data is None else np.ascontiguousarray(data).tobytes()}


def tflite_bytes(
    tensors: Sequence[dict[str, Any]],
    ops: Sequence[tuple[int | str, Sequence[int], Sequence[int]]],
    inputs: Sequence[int],
    outputs: Sequence[int],
    *,
    version: int = 1,
    metadata: dict[str, bytes] | None = None,
) -> bytes:
    """A model; an operator is (builtin code or custom name, input tensors, output tensors)."""
    buffers: list[Table] = [{}]
    tables = []
    for item in tensors:
        if item["data"] is not None:
            buffers.append({0: Vector("B", item["data"])})
            item["table"][2] = Scalar("I", len(buffers) - 1)
        tables.append(item["table"])
    entries = []
    for name, content in (metadata or {}).items():
        buffers.append({0: Vector("B", content)})
        entries.append({0: name, 1: Scalar("I", len(buffers) - 1)})
    kinds = list(dict.fromkeys(op for op, _, _ in ops))
    codes: list[Table] = []
    for kind in kinds:
        code: Table = {2: Scalar("i", version)}
        if isinstance(kind, str):
            code |= {0: Scalar("b", CUSTOM), 1: kind, 3: Scalar("i", CUSTOM)}
        else:
            code |= {0: Scalar("b", min(kind, 127)), 3: Scalar("i", kind)}
        codes.append(code)
    operators = [{0: Scalar("I", kinds.index(op)), 1: Vector("i", ins), 2: Vector("i", outs)} for op, ins, outs in ops]
    subgraph: Table = {0: tables, 1: Vector("i", inputs), 2: Vector("i", outputs), 3: operators, 4: "main"}
    model: Table = {0: Scalar("I", 3), 1: codes, 2: [subgraph], 3: "edgekit tests", 4: buffers}
    if entries:
        model[6] = entries
    return flatbuffer(model, b"TFL3")


def affine_tflite(path: Path, *, width: int = 4, dynamic: bool = True) -> Path:
    """y = x @ w + b with w = 2 on the diagonal and b = 0, 1, 2, ...; x, y: float32 (-1 or 1, width)."""
    signature = [-1, width] if dynamic else None
    tensors = [
        tensor("x", [1, width], signature=signature),
        tensor("w", [width, width], data=2 * np.eye(width, dtype=np.float32)),
        tensor("b", [width], data=np.arange(width, dtype=np.float32)),
        tensor("y", [1, width], signature=signature),
    ]
    path.write_bytes(tflite_bytes(tensors, [(FULLY_CONNECTED, [0, 1, 2], [3])], [0], [3]))
    return path


def counter_tflite(path: Path, *, size: int = 3) -> Path:
    """state_out = state + x; y = 2 * state_out; all float32 (1, size)."""
    tensors = [tensor(name, [1, size]) for name in ("x", "state", "state_out", "y")]
    path.write_bytes(tflite_bytes(tensors, [(ADD, [0, 1], [2]), (ADD, [2, 2], [3])], [0, 1], [3, 2]))
    return path


def variable_tflite(path: Path) -> Path:
    """y = x + h, h = y: the state is a variable inside the graph; x, y: float32 (1, 2)."""
    eye = np.eye(2, dtype=np.float32)
    tensors = [
        tensor("x", [1, 2]),
        tensor("w", [2, 2], data=eye),
        tensor("r", [2, 2], data=eye),
        tensor("b", [2], data=np.zeros(2, np.float32)),
        tensor("h", [1, 2], variable=True),
        tensor("y", [1, 2]),
    ]
    path.write_bytes(tflite_bytes(tensors, [(RNN, [0, 1, 2, 3, 4], [5])], [0], [5]))
    return path


def quantized_tflite(path: Path) -> Path:
    """y = x + x in int8; x: scale 0.5, zero point -3; y: scale 1.0, zero point 7; both (1, 4)."""
    tensors = [
        tensor("x", [1, 4], "int8", scale=[0.5], zero_point=[-3]),
        tensor("y", [1, 4], "int8", scale=[1.0], zero_point=[7]),
    ]
    path.write_bytes(tflite_bytes(tensors, [(ADD, [0, 0], [1])], [0], [1], version=2))
    return path


def custom_tflite(path: Path, name: str = "TeleportV2") -> Path:
    """One custom operator that no runtime has."""
    tensors = [tensor("x", [1, 4]), tensor("y", [1, 4])]
    path.write_bytes(tflite_bytes(tensors, [(name, [0], [1])], [0], [1]))
    return path


def big_tflite(path: Path, *, layers: int, width: int = 1024) -> Path:
    """`layers` dense layers with a width x width float32 matrix."""
    rng = np.random.default_rng(1)
    tensors, ops = [tensor("x", [1, width])], []
    for i in range(layers):
        tensors.append(tensor(f"w{i}", [width, width], data=rng.standard_normal((width, width), np.float32) / 32))
        tensors.append(tensor(f"y{i}", [1, width]))
        ops.append((FULLY_CONNECTED, [2 * i, 2 * i + 1, -1], [2 * i + 2]))
    path.write_bytes(tflite_bytes(tensors, ops, [0], [2 * layers]))
    return path
