"""Picks the runtime of a graph; nothing of it is imported before a graph needs it."""

from __future__ import annotations

import os
import warnings

from edgekit.errors import ProviderInactive
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


def load_with_fallback(
    runtime: RuntimeName, path: str | os.PathLike[str], settings: Settings, data: str | os.PathLike[str] | None
) -> Graph:
    """As `load_graph`, but a provider that is not active is passed over for the next one, with a warning."""
    for index, provider in enumerate(settings.providers):
        try:
            return load_graph(runtime, path, settings.replace(providers=settings.providers[index:]), data)
        except ProviderInactive as error:
            warnings.warn(f"{provider} is passed over: {error.message}", RuntimeWarning, stacklevel=2)
    return load_graph(runtime, path, settings.replace(providers=()), data)


def load_workers(graph: Graph, count: int) -> Graph:
    """`count` equal graphs behind one, where a graph runs one call at a time; others take calls as they come."""
    clone = getattr(graph, "clone", None)
    if count == 1 or clone is None:
        return graph
    from edgekit.runtimes.workers import Workers

    graphs = [graph]
    try:
        for _ in range(count - 1):
            graphs.append(clone())
    except BaseException:
        for opened in graphs:
            opened.close()
        raise
    return Workers(graphs)


def confirmed(graph: Graph) -> None:
    """Tell a graph that its file was the verified one all the time, so that its cache may be used from now on."""
    keep = getattr(graph, "keep", None)
    if keep is not None:
        keep()


def installed() -> dict[str, str]:
    """The version of each runtime that this interpreter can import, by distribution name; imports them."""
    from edgekit.runtimes import litert, onnx

    return {**onnx.installed(), **litert.installed()}
