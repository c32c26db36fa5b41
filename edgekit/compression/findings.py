"""Which kinds of compression a file holds, from the figures of its layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edgekit.compression.facts import Finding, LayerFacts
from edgekit.compression.layers import EMBEDDINGS
from edgekit.compression.measures import Measures
from edgekit.compression.structure import Folding, LowRank, Shared
from edgekit.formats import BITS

FLOATS = frozenset(("FP32", "FP64", "FP16", "BF16"))
SPARSE_SHARE = {32: 0.10, 64: 0.10, 16: 0.10, 8: 0.30, 4: 0.50, 2: 0.75}
"""Zeros that pruning must exceed, by bits: rounding to few levels makes zeros of its own."""

DEAD_SHARE = 0.05
TWO_OF_FOUR_LIMIT = 0.80
CLUSTER_LIMIT = 256
MIN_SHARE = 0.01
"""Of all parameters: zeros in less are shown with their layer and are no kind of the file."""

MIN_PER_VALUE = 16
"""Weights per distinct value below which a small layer is not called clustered."""


def findings_of(
    layers: Sequence[LayerFacts],
    parameters: int,
    low_rank: Sequence[LowRank],
    shared: Sequence[Shared],
    folded: Folding,
) -> tuple[Finding, ...]:
    """What there is, none where there is none."""
    found: list[Finding] = []

    def note(kind: str, chosen: Sequence[LayerFacts], figure: float | None, evidence: str) -> None:
        if chosen:
            share = sum(x.parameters for x in chosen) / parameters if parameters else 0.0
            found.append(
                Finding(kind=kind, layers=len(chosen), share=min(share, 1.0), figure=figure, evidence=evidence)
            )

    for scheme in ("qdq", "qoperator", "integer", "dynamic", "weight-only"):
        chosen = [x for x in layers if x.scheme == scheme]
        note(scheme, chosen, _bits(chosen), _quantised_words(chosen))
    for datatype, kind in (("FP16", "float16"), ("BF16", "bfloat16")):
        chosen = [x for x in layers if x.datatype == datatype]
        note(kind, chosen, 16.0, f"weights stored as {datatype}")
    _note_zeros(layers, note)
    _note_clusters(layers, note)
    if low_rank:
        names = {pair.first for pair in low_rank} | {pair.second for pair in low_rank}
        shown = low_rank[0]
        chosen = [x for x in layers if x.name in names]
        kept = sum(p.kept for p in low_rank) / len(low_rank)
        evidence = f"{shown.first} and {shown.second}: rank {shown.rank} of {shown.full}"
        note("low-rank", chosen, kept, evidence + (f", and {len(low_rank) - 1} more" if len(low_rank) > 1 else ""))
    shares = [s for s in shared if s.copies == 1]
    if shares:
        names = {name for s in shares for name in s.users}
        evidence = f"{shares[0].tensor} serves {len(shares[0].users)} layers"
        note("shared", [x for x in layers if x.name in names], float(len(shares)), evidence)
    if folded.convolutions and not folded.batch_normalizations and folded.biased == folded.convolutions:
        convolutions = [x for x in layers if "conv" in x.op.lower()]
        note("folded", convolutions, None, "no batch normalisation; every convolution has a bias that can hold one")
    fused = [x for x in layers if x.activation]
    words = ", ".join(f"{n} {name}" for name, n in folded.fused_activations.items())
    note("fused-activation", fused, None, words)
    return tuple(found)


def _bits(layers: Sequence[LayerFacts]) -> float | None:
    total = sum(x.parameters for x in layers)
    # A packed weight (MatMulNBits) carries its own width.
    return sum(x.parameters * BITS.get(x.datatype, 8) for x in layers) / total if total else None


def _quantised_words(layers: Sequence[LayerFacts]) -> str:
    if not layers:
        return ""
    types = ", ".join(sorted({x.datatype for x in layers}))
    grain = ", ".join(sorted({x.granularity for x in layers if x.granularity}))
    return f"{types}, {grain}: {layers[0].evidence}"


Note = Callable[[str, Sequence[LayerFacts], "float | None", str], None]


def _weighty(chosen: list[LayerFacts], layers: Sequence[LayerFacts]) -> list[LayerFacts]:
    whole = sum(x.parameters for x in layers)
    return chosen if sum(x.parameters for x in chosen) >= MIN_SHARE * whole else []


def _note_zeros(layers: Sequence[LayerFacts], note: Note) -> None:
    sparse = _weighty([x for x in layers if is_sparse(x)], layers)
    if sparse:
        share = zeros_share([x for x in layers if x.measures is not None])
        in_layers = zeros_share(sparse)
        note("unstructured-sparsity", sparse, in_layers, f"{in_layers:.1%} zeros in these layers, {share:.1%} over all")
        pattern = [x for x in sparse if is_two_of_four(x)]
        note("two-of-four", pattern, zeros_share(pattern), "two zeros in every four weights along the summed axis")
    dead = _weighty([x for x in layers if is_structured(x)], layers)
    if dead:
        gone = sum(x.measures.dead_channels for x in dead if x.measures)
        channels = sum(x.measures.channels for x in dead if x.measures)
        note("structured-sparsity", dead, gone / channels, f"{gone} of {channels} output channels are zero throughout")


def _note_clusters(layers: Sequence[LayerFacts], note: Note) -> None:
    coded = [x for x in layers if x.codebook is not None]
    if coded:
        first = coded[0]
        bits = entropy_bits(coded)
        words = f"W = codebook[index]: {first.name} has {first.codebook} values"
        note("clustered", coded, bits, words + (f"; entropy {bits:.2f} bits per weight" if bits is not None else ""))
    in_place = [x for x in layers if x.codebook is None and has_few_values(x)]
    grid = [x for x in in_place if x.measures is not None and x.measures.on_grid]
    note("quantised-values-in-float", grid, entropy_bits(grid), "few values on one even grid, stored as float")
    loose = [x for x in in_place if x not in grid]
    most = max((x.measures.distinct or 0 for x in loose if x.measures), default=0)
    note("clustered-values-in-float", loose, entropy_bits(loose), f"at most {most} distinct values, stored in full")


def zeros_share(layers: Sequence[LayerFacts]) -> float:
    """Share of zeros over these layers."""
    known = [x.measures for x in layers if x.measures is not None]
    total = sum(m.elements for m in known)
    return sum(m.zeros for m in known) / total if total else 0.0


def entropy_bits(layers: Sequence[LayerFacts]) -> float | None:
    """Bits per weight that an ideal coder needs, over these layers; null where one has too many values."""
    known = [x.measures for x in layers if x.measures is not None]
    if not known or any(m.entropy_bits is None for m in known):
        return None
    total = sum(m.elements for m in known)
    return sum((m.entropy_bits or 0.0) * m.elements for m in known) / total if total else None


def is_sparse(layer: LayerFacts) -> bool:
    """Whether zeros outside dead channels are more than rounding makes."""
    m = layer.measures
    if m is None or m.elements < 64 or layer.op in EMBEDDINGS:
        return False
    per_channel = m.elements // m.channels if m.channels else 0
    living = m.elements - m.dead_channels * per_channel
    zeros = m.zeros - m.dead_channels * per_channel
    return living > 0 and zeros / living >= SPARSE_SHARE.get(BITS.get(layer.datatype, 8), 0.10)


def is_two_of_four(layer: LayerFacts) -> bool:
    """Whether every group of four holds two zeros, and not only because nearly everything is zero."""
    m = layer.measures
    return m is not None and m.two_of_four == 1.0 and m.sparsity <= TWO_OF_FOUR_LIMIT


def is_structured(layer: LayerFacts) -> bool:
    """Whether whole output channels are zero."""
    m: Measures | None = layer.measures
    if m is None or not m.channels or layer.op in EMBEDDINGS or m.dead_channels == m.channels:
        return False
    return m.dead_channels / m.channels >= DEAD_SHARE


def has_few_values(layer: LayerFacts) -> bool:
    """Whether a float weight has at most 256 distinct values beside zero, and at least 16 weights for each."""
    m = layer.measures
    if m is None or m.distinct is None or layer.datatype not in FLOATS or m.zeros == m.elements:
        return False
    values = m.distinct - (m.zeros > 0)
    return m.distinct > 1 and values <= CLUSTER_LIMIT and m.elements - m.zeros >= MIN_PER_VALUE * values
