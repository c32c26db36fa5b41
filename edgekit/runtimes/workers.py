"""Several interpreters of one graph, so that as many threads run at once; each run takes one that is free."""

from __future__ import annotations

import queue
from collections.abc import Mapping, Sequence

from edgekit.arrays import Array
from edgekit.runtimes.graph import Binding, Graph, GraphTensors, Tensors


class Workers:
    """A Graph over equal graphs."""

    def __init__(self, graphs: Sequence[Graph]) -> None:
        self._graphs = tuple(graphs)
        self._free: queue.SimpleQueue[Graph] = queue.SimpleQueue()
        for graph in self._graphs:
            self._free.put(graph)

    @property
    def spec(self) -> GraphTensors:
        """What goes in and what comes out."""
        return self._graphs[0].spec

    def run(self, tensors: Tensors, outputs: Sequence[str] | None = None) -> dict[str, Array]:
        """Run whichever is free; waits while all are at work. Raises GraphRefused, ClosedError."""
        graph = self._free.get()
        try:
            return graph.run(tensors, outputs)
        finally:
            self._free.put(graph)

    def bind(self, carry: Mapping[str, str], initial: Tensors) -> Binding:
        """Steps on the first of them."""
        return self._graphs[0].bind(carry, initial)

    def close(self) -> None:
        """Close them all; a second call does nothing."""
        for graph in self._graphs:
            graph.close()
