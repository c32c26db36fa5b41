"""Tensors by KServe v2's words: `name, datatype, shape`, and how real numbers become whole ones."""

from __future__ import annotations

from typing import Literal

from edgekit.errors import ManifestError
from edgekit.records import Record

Datatype = Literal[
    "BOOL", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64", "FP16", "FP32", "FP64", "BYTES"
]

NUMPY_NAMES: dict[str, str] = {
    "BOOL": "bool",
    "INT8": "int8",
    "INT16": "int16",
    "INT32": "int32",
    "INT64": "int64",
    "UINT8": "uint8",
    "UINT16": "uint16",
    "UINT32": "uint32",
    "UINT64": "uint64",
    "FP16": "float16",
    "FP32": "float32",
    "FP64": "float64",
    "BYTES": "object",
}
"""numpy's name of each datatype; no numpy is imported for it."""

DATATYPES: dict[str, str] = {numpy_name: datatype for datatype, numpy_name in NUMPY_NAMES.items()}


class Quantization(Record):
    """real = scale * (quantised - zero_point); the way there rounds as said and saturates.

    rounding: `nearest_even` (ties to even: numpy, ONNX), `nearest_away` (ties away from zero: TFLite's
    `round`), `trunc` (towards zero: a C cast).
    """

    scale: float
    zero_point: int
    rounding: Literal["nearest_even", "nearest_away", "trunc"]

    def check(self) -> None:
        if not self.scale > 0.0:
            raise ManifestError("scale", f"expected a number above 0, got {self.scale}")


class Port(Record):
    """One input or output of a graph, and the value of the flow that it reads or writes.

    name: the graph's own name of the tensor; value: the name in the flow; shape: -1 for a free axis.
    quantization: set when the graph's tensor is quantised and the flow's value is real; null passes the
    tensor through as it is.
    """

    name: str
    value: str
    datatype: Datatype
    shape: tuple[int, ...]
    quantization: Quantization | None


class TensorInput(Record):
    """An input that the user passes as an array, already in the graph's form."""

    kind: Literal["tensor"]
    value: str
    datatype: Datatype
    shape: tuple[int, ...]
