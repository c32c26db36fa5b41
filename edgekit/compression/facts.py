"""The records of an inspection: what a model file contains, layer by layer and in total."""

from __future__ import annotations

from edgekit.compression.measures import Deflated, Measures
from edgekit.compression.structure import Folding, LowRank, Shared
from edgekit.records import Record


class LayerFacts(Record):
    """One weight in its layer.

    multiply_adds: of one call; null where a size is not known, or where an earlier weight of the layer has them.
    scheme: how weight and data are quantised. granularity: of the scales. codebook: entries of the table that the
    weight is looked up in, null where it is stored itself. measures: null where the numbers are not readable.
    doubts: scales and numbers that look wrong.
    """

    name: str
    op: str
    weight: str
    datatype: str
    shape: tuple[int, ...]
    parameters: int
    stored_bytes: int
    multiply_adds: int | None
    scheme: str
    granularity: str
    evidence: str
    activation: str
    codebook: int | None
    measures: Measures | None
    doubts: tuple[str, ...]


class Finding(Record):
    """A kind of compression. layers: how many have it; share: of all parameters, 0 to 1; figure: the kind's own
    number (a share of zeros, a ratio, bits), null where it has none."""

    kind: str
    layers: int
    share: float
    figure: float | None
    evidence: str


class GraphFacts(Record):
    """One model file.

    size_bytes: on disk, outside weights included. weight_bytes: all constants. widened_bytes: the parameters as
    float32, what a runtime may make of them. activation_bytes: the largest sum of values alive at once in the order
    of the file, null where a shape is not known. multiply_adds: of one call at input_shapes, what is counted;
    not_counted: the rest by layer, with the reason. assumed: free axes and what was taken for them. other_parameters:
    in no layer of the list (biases, normalisations). benefits: who can use what, in sentences.
    """

    file: str
    format: str
    runtime: str
    producer: str
    size_bytes: int
    parameters: int
    other_parameters: int
    weight_bytes: int
    widened_bytes: int
    activation_bytes: int | None
    multiply_adds: int
    not_counted: dict[str, str]
    input_shapes: dict[str, tuple[int, ...]]
    assumed: dict[str, int]
    datatypes: dict[str, int]
    operators: int
    layers: tuple[LayerFacts, ...]
    findings: tuple[Finding, ...]
    low_rank: tuple[LowRank, ...]
    shared: tuple[Shared, ...]
    folding: Folding
    transfer: Deflated
    unread: tuple[str, ...]
    benefits: tuple[str, ...]

    def kinds(self) -> tuple[str, ...]:
        """The names of the findings."""
        return tuple(f.kind for f in self.findings)
