"""Any model file as a graph, told by its bytes."""

from __future__ import annotations

import os

from edgekit.compression.network import Network
from edgekit.errors import GraphRefused
from edgekit.formats import Buffer, mapped


def read_network(path: str | os.PathLike[str]) -> Network:
    """The graph in a .onnx, .ort or .tflite file, told by its contents. Raises GraphRefused."""
    real = os.fspath(path)
    file = os.path.basename(real)
    with mapped(path, file) as data:
        return _parse(data, real, file)


def _parse(data: Buffer, path: str, file: str) -> Network:
    mark = bytes(data[4:8])
    if mark == b"TFL3":
        from edgekit.compression.tflite_network import parse_tflite_network

        return parse_tflite_network(data, path, file)
    if mark == b"ORTM":
        from edgekit.compression.ort_network import parse_ort_network

        return parse_ort_network(data, path, file)
    if not file.lower().endswith((".onnx", ".onnx.data", ".pb")):
        raise GraphRefused(f"{file}: neither TFLite nor ORT format by its bytes, nor .onnx by its name")
    from edgekit.compression.onnx_network import parse_onnx_network

    return parse_onnx_network(data, path, file)
