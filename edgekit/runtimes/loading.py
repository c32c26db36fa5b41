"""Picks the runtime of a graph; nothing of it is imported before a graph needs it."""

from __future__ import annotations

import os

from edgekit.runtimes.graph import Graph, RuntimeName, Settings


def load_graph(
    runtime: RuntimeName, path: str | os.PathLike[str], settings: Settings, data: str | os.PathLike[str] | None
) -> Graph:
    """A loaded graph; the file is opened by the runtime through `path`, never read into Python.

    data: the file with an ONNX graph's outside weights, in the same directory, or None. Raises GraphRefused,
    BundleError (weights anywhere else), RuntimeMissing, ProviderInactive.
    """
    if runtime == "onnxruntime":
        from edgekit.runtimes import onnx

        return onnx.load(path, settings, data=data)
    from edgekit.runtimes import litert

    return litert.load(path, settings, data=data)


def installed() -> dict[str, str]:
    """The version of each runtime that this interpreter can import, by distribution name; imports them."""
    from edgekit.runtimes import litert, onnx

    return {**onnx.installed(), **litert.installed()}
