"""An inspection as text for people, at most 100 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

from edgekit.compression.facts import GraphFacts, LayerFacts

WIDTH = 100
LAYERS_SHOWN = 40


def inspection_text(about: Mapping[str, str], graphs: Mapping[str, GraphFacts]) -> str:
    """All of it: the bundle's facts, then each graph."""
    lines: list[str] = []
    width = max((len(name) for name in about), default=0)
    for name, what in about.items():
        lines += _wrapped(f"{name:<{width}}  ", what)
    for name, graph in graphs.items():
        if lines:
            lines.append("")
        lines += _graph_lines(name, graph)
    return "\n".join(lines)


def count(number: float) -> str:
    """A count in thousands, millions or billions, three digits."""
    for size, letter in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(number) >= size:
            return f"{number / size:.3g}{letter}" if number < 999.5 * size else f"{number / size:.0f}{letter}"
    return f"{number:g}"


def size(count_bytes: float) -> str:
    """Bytes in kB or MB, powers of ten."""
    for unit, letter in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count_bytes >= unit:
            return f"{count_bytes / unit:.2f} {letter}"
    return f"{count_bytes:.0f} B"


def _wrapped(head: str, text: str) -> list[str]:
    room = max(20, WIDTH - len(head))
    parts = textwrap.wrap(text, room, break_long_words=True) or [""]
    return [head + parts[0], *(" " * len(head) + part for part in parts[1:])]


def _graph_lines(name: str, g: GraphFacts) -> list[str]:
    lines = _wrapped("", f"{name}: {g.file}, {g.format}" + (f" by {g.producer}" if g.producer else ""))
    memory = f"weights {size(g.weight_bytes)}, {size(g.widened_bytes)} if widened to float32"
    if g.activation_bytes is not None:
        memory += f"; values at most {size(g.activation_bytes)} at once"
    rows = [("size", size(g.size_bytes)), ("parameters", count(g.parameters)), ("in memory", memory)]
    shapes = ", ".join(f"{n} {'x'.join('?' if a < 0 else str(a) for a in s)}" for n, s in g.input_shapes.items())
    work = f"{count(g.multiply_adds)} per call of {shapes}" if shapes else count(g.multiply_adds)
    if g.assumed:
        work += f" ({', '.join(g.assumed)} taken as 1)"
    rows.append(("multiply-adds", work))
    if g.not_counted:
        shown = list(g.not_counted.items())
        listed = "; ".join(f"{n}: {why}" for n, why in shown[:3])
        more = f"; and {len(shown) - 3} more" if len(shown) > 3 else ""
        rows.append(
            ("not counted", f"{listed}{more}" + (" (fix it: --shape NAME=1x3x224x224)" if "fixed" in listed else ""))
        )
    types = ", ".join(f"{kind} {n / g.parameters:.1%}" for kind, n in g.datatypes.items()) if g.parameters else "none"
    rows.append(("datatypes", types))
    rows.append(("operators", _operators(g)))
    rows.append(
        ("deflate", f"weights shrink {g.transfer.ratio:.2f} x" + (" (by a sample)" if g.transfer.sampled else ""))
    )
    if g.unread:
        rows.append(("not read", ", ".join(g.unread[:5])))
    for head, text in rows:
        lines += _wrapped(f"  {head:<14}", text)
    lines += _found_lines(g)
    for sentence in g.benefits:
        lines += _wrapped("  * ", sentence)
    return lines + _layer_lines(g.layers)


def _operators(g: GraphFacts) -> str:
    f = g.folding
    parts = [f"{g.operators}"]
    if f.convolutions:
        parts.append(f"{f.convolutions} convolutions, {f.biased} with a bias")
    if f.batch_normalizations:
        parts.append(f"{f.batch_normalizations} batch normalisations, {f.after_convolution} could be folded")
    parts += [f"{n} {name}" for name, n in f.fused_operators.items()]
    return ", ".join(parts)


def _found_lines(g: GraphFacts) -> list[str]:
    if not g.findings:
        return [f"  {'compression':<14}none"]
    lines = []
    for i, finding in enumerate(g.findings):
        head = f"  {'compression' if i == 0 else '':<14}"
        lines += _wrapped(head, f"{finding.kind}: {finding.layers} layers, {finding.share:.0%}; {finding.evidence}")
    return lines


def _layer_lines(layers: Sequence[LayerFacts]) -> list[str]:
    if not layers:
        return []
    head = f"  {'layer':<30} {'operator':<17} {'type':<6} {'params':>7} {'mult-add':>8} {'scheme':<12} zeros"
    lines = [head]
    for layer in layers[:LAYERS_SHOWN]:
        name = layer.name if len(layer.name) <= 30 else "…" + layer.name[-29:]
        zeros = f"{layer.measures.sparsity:6.1%}" if layer.measures is not None else "     -"
        work = count(layer.multiply_adds) if layer.multiply_adds is not None else "-"
        scheme = "" if layer.scheme == "none" else layer.scheme
        grain = {"per-channel": "c", "per-tensor": "t", "per-block": "b"}.get(layer.granularity, "")
        scheme = f"{scheme}/{grain}" if grain else scheme
        if layer.codebook is not None:
            scheme = f"codebook {layer.codebook}"
        lines.append(
            f"  {name:<30} {layer.op[:17]:<17} {layer.datatype[:6]:<6} {count(layer.parameters):>7} {work:>8} "
            f"{scheme[:13]:<13}{zeros}"
        )
        for doubt in layer.doubts:
            lines += _wrapped("      ! ", doubt)
    if len(layers) > LAYERS_SHOWN:
        lines.append(f"  and {len(layers) - LAYERS_SHOWN} more (--json lists them all)")
    return lines
