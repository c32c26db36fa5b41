"""Runs the graphs of a bundle in dependency order, and only those that are needed.

Values are arrays by name; axis 0 counts rows (texts of a candidate set, windows of a sound, items of a batch).
A graph whose batch axis is fixed at 1, or that carries state, is run once per row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from edgekit.arrays import Array
from edgekit.clock import Lap
from edgekit.errors import GraphRefused, InputError
from edgekit.manifest import GraphSpec
from edgekit.records import Record
from edgekit.runtimes.graph import Graph
from edgekit.specs.quantize import dequantize, quantize
from edgekit.specs.tensor import NUMPY_NAMES, Port, Quantization

States = dict[str, Array]
"""What a graph carries from run to run: its state inputs by name."""


def needed(graphs: Sequence[GraphSpec], given: Iterable[str], wanted: Iterable[str]) -> tuple[GraphSpec, ...]:
    """The graphs to run, in order, so that `wanted` follows from `given`; raises InputError if it cannot."""
    known, order = set(given), []
    waiting = list(graphs)
    while ready := [g for g in waiting if all(p.value in known for p in g.inputs)]:
        order += ready
        waiting = [g for g in waiting if g not in ready]
        known |= {p.value for g in ready for p in g.outputs}
    missing = [name for name in wanted if name not in known]
    if missing:
        lacking = sorted({p.value for g in waiting for p in g.inputs} - known)
        raise InputError(f"'{missing[0]}' cannot be computed: {', '.join(lacking) or 'nothing'} is not given")
    targets, kept = set(wanted), []
    for graph in reversed(order):
        if targets & {p.value for p in graph.outputs}:
            kept.append(graph)
            targets |= {p.value for p in graph.inputs}
    return tuple(reversed(kept))


class Step(Record):
    """One loaded graph with its wiring worked out."""

    spec: GraphSpec
    run: Callable[[dict[str, Array], States | None], None]
    stage: str


def wire(spec: GraphSpec, graph: Graph) -> Step:
    """The step that reads the flow's values, runs the graph and writes its outputs back among them."""
    constants = {c.name: np.array(c.data, NUMPY_NAMES[c.datatype]).reshape(c.shape) for c in spec.constants}
    feeds = [(p.name, p.value, np.dtype(NUMPY_NAMES[p.datatype]), len(p.shape), _to_graph(p)) for p in spec.inputs]
    fetches = [(p.name, p.value, _from_graph(p.quantization)) for p in spec.outputs]
    carries = [(state.input, state.output) for state in spec.state]
    shared = any(name == output for name, _, _ in fetches for _, output in carries)
    single = bool(carries) or any(p.shape[:1] == (1,) for p in spec.inputs)
    shapes = {t.name: (t.datatype, t.shape) for t in graph.spec.inputs}

    def once(inputs: dict[str, Array], carried: States, values: dict[str, Array]) -> dict[str, Array]:
        """Run once; the outputs go into `values`, which is returned, and what the next run reads into `carried`."""
        inputs.update(constants)
        inputs.update(carried)
        outputs = graph.run(inputs)
        for source, output in carries:
            carried[source] = outputs[output]
        for name, value, convert in fetches:
            values[value] = outputs[name] if convert is None else convert(outputs[name])
        return values

    def run(values: dict[str, Array], states: States | None) -> None:
        inputs: dict[str, Array] = {}
        by_row = several = False  # a row axis that the graph has not; not one row
        for name, value, dtype, rank, convert in feeds:
            array = values[value]
            inputs[name] = array if array.dtype is dtype else convert(array)
            if array.ndim > rank:
                by_row = True
            elif single and array.ndim and len(array) != 1:
                several = True
        carried = {} if states is None else states
        if carries and not carried:
            carried.update(initial_state(spec, shapes))
        if by_row or several:
            rows = [once(_row(inputs, i, not by_row), carried, {}) for i in range(_rows(inputs))]
            values.update(_joined(rows, copy=shared))
        elif shared:
            values.update(_joined([once(inputs, carried, {})], copy=True))
        else:
            once(inputs, carried, values)

    return Step(spec=spec, run=run, stage=f"graph:{spec.name}")


def run(steps: Sequence[Step], values: dict[str, Array], lap: Lap, states: dict[str, States] | None = None) -> None:
    """Run the steps in order, adding their outputs to `values`.

    states: by graph name, read and replaced (a stream's); None starts each graph from its initial state.
    """
    for step in steps:
        step.run(values, None if states is None else states.setdefault(step.spec.name, {}))
        lap(step.stage)


def initial_state(spec: GraphSpec, shapes: Mapping[str, tuple[str, tuple[int, ...]]]) -> States:
    """Zeros for every state input; shapes: graph input -> (datatype, shape), a free axis starts at 1."""
    return {
        state.input: np.zeros([max(n, 1) for n in shapes[state.input][1]], NUMPY_NAMES[shapes[state.input][0]])
        for state in spec.state
    }


def _to_graph(port: Port) -> Callable[[Array], Array]:
    dtype = np.dtype(NUMPY_NAMES[port.datatype])
    if port.quantization is None:
        return lambda x: x if x.dtype == dtype else x.astype(dtype)
    quantization = port.quantization
    return lambda x: x if x.dtype == dtype else quantize(x, quantization, dtype.name)


def _from_graph(quantization: Quantization | None) -> Callable[[Array], Array] | None:
    if quantization is None:
        return None
    known = quantization
    return lambda x: dequantize(x, known)


def _rows(inputs: Mapping[str, Array]) -> int:
    counts = {len(x) for x in inputs.values()}
    if len(counts - {1}) > 1:
        raise GraphRefused(f"inputs have different numbers of rows: {sorted(counts)}")
    return max(counts, default=0)


def _row(inputs: Mapping[str, Array], index: int, keep_axis: bool) -> dict[str, Array]:
    chosen = {name: (x, 0 if len(x) == 1 else index) for name, x in inputs.items()}
    return {name: x[i : i + 1] if keep_axis else x[i] for name, (x, i) in chosen.items()}


def _joined(results: Sequence[dict[str, Array]], *, copy: bool) -> dict[str, Array]:
    """Rows one below the other; one row alone as it is, unless what the graph carries on must not be shared."""
    if len(results) == 1 and not copy:
        return results[0]
    return {name: np.concatenate([r[name] for r in results]) for name in results[0]}
