"""What a runtime and a target's CPU can use of the compression in a file, and what they cannot, in sentences.

Sources: XNNPACK's and ONNX Runtime's kernels as of LiteRT 2.3 and ONNX Runtime 1.32 on the CPU.
"""

from __future__ import annotations

from edgekit.compression.facts import Finding, GraphFacts
from edgekit.compression.findings import entropy_bits
from edgekit.targets import Target

DOT_PRODUCTS = ("i8mm", "asimddp", "avx512_vnni", "avx_vnni", "avxvnniint8", "amx_int8")
HALF_ARITHMETIC = ("asimdhp", "avx512_fp16")


def benefits_of(facts: GraphFacts, target: Target | None, features: frozenset[str] | None) -> tuple[str, ...]:
    """One sentence or two for each kind found."""
    cpu = features if features is not None else frozenset(target.cpu_features if target is not None else ())
    said: list[str] = []
    if target is not None and not target.runs(facts.runtime):
        said.append(f"{target.name} has no {facts.runtime}: it runs {', '.join(target.runtimes)}")
    where = target.name if target is not None else "the CPU"
    for finding in facts.findings:
        said += _sentences(finding, facts, where, cpu, target)
    doubted = [layer.name for layer in facts.layers if layer.doubts]
    if doubted:
        more = f", and {len(doubted) - 1} more" if len(doubted) > 1 else ""
        first = next(layer for layer in facts.layers if layer.doubts)
        said.append(f"looks wrong: {doubted[0]} ({first.doubts[0]}){more}; compare it with the original")
    copies = [s for s in facts.shared if s.copies > 1]
    if copies:
        wasted = sum((s.copies - 1) * s.size_bytes for s in copies)
        said.append(f"{len(copies)} weights are stored more than once: {wasted:,} bytes could be shared and are not")
    return tuple(said)


def _sentences(
    finding: Finding, facts: GraphFacts, where: str, cpu: frozenset[str], target: Target | None
) -> list[str]:
    kind, gain = finding.kind, facts.transfer.ratio
    of_sample = " (by a sample)" if facts.transfer.sampled else ""
    if kind in ("qdq", "qoperator", "integer", "dynamic"):
        return _integer_sentences(
            kind, facts, where, cpu, known=bool(cpu) or (target is not None and target.arch != "x86_64")
        )
    if kind == "weight-only":
        bits = finding.figure or 8.0
        small = f"weights of {bits:.3g} bits are widened while they are used: less memory and transfer"
        return [f"{small}, no integer arithmetic on {where}"]
    if kind in ("float16", "bfloat16"):
        return [_half_sentence(kind, facts.runtime, where, cpu)]
    if kind == "unstructured-sparsity":
        zeros = f"{(finding.figure or 0):.0%} zeros"
        return [f"{zeros}: no runtime here skips them; the gain is {gain:.1f} x in transfer only{of_sample}"]
    if kind == "two-of-four":
        if target is not None and any("Tensorrt" in name for name in target.providers):
            return [f"2:4 zeros: TensorRT on {where} can use the pattern when an engine is built with sparsity on"]
        return [f"2:4 zeros: a pattern of sparse tensor cores; nothing on {where} uses it"]
    if kind == "structured-sparsity":
        return [f"{finding.evidence}: they are computed all the same until they are cut out of the graph"]
    if kind == "low-rank":
        saved = f"{(finding.figure or 1.0):.0%} of the parameters and multiply-adds of the full matrices"
        return [f"low-rank pairs need {saved}: every runtime gains by it"]
    if kind == "shared":
        return ["shared weights are stored once in the file; a runtime that packs weights keeps one copy per layer"]
    if kind == "clustered":
        return [f"the codebook makes the file small; {facts.runtime} restores the full weight in memory"]
    if kind in ("clustered-values-in-float", "quantised-values-in-float"):
        entropy = entropy_bits([x for x in facts.layers if x.measures is not None and x.measures.distinct is not None])
        told = f" (about {entropy:.1f} bits per weight)" if entropy is not None else ""
        return [f"few distinct values stored in full{told}: no runtime uses it; transfer gains {gain:.1f} x{of_sample}"]
    return []


def _integer_sentences(kind: str, facts: GraphFacts, where: str, cpu: frozenset[str], known: bool) -> list[str]:
    dot = next((name for name in DOT_PRODUCTS if name in cpu), None)
    if dot is not None:
        said = [f"integer products: {where} multiplies int8 natively ({dot})"]
    elif known:
        said = [f"integer products: {where} has no int8 dot product; memory gains, speed may not: measure it"]
    else:
        said = [f"integer products: gain on {where} where it has VNNI, which is not said: measure it"]
    if kind == "dynamic":
        said.append("dynamic: the data is quantised anew in every call, which small layers feel")
    if kind == "qdq" and facts.runtime == "onnxruntime":
        said.append("QDQ: ONNX Runtime joins the pairs into integer operators when it loads the graph")
    return said


def _half_sentence(kind: str, runtime: str, where: str, cpu: frozenset[str]) -> str:
    if kind == "bfloat16":
        return f"bfloat16: {runtime} widens it to float32 on {where}; the gain is size"
    if runtime == "litert":
        return "float16 weights: LiteRT widens them to float32 when the graph is loaded; the gain is size and transfer"
    half = next((name for name in HALF_ARITHMETIC if name in cpu), None)
    if half is not None:
        return f"float16: {where} computes it ({half}); ONNX Runtime has kernels for some operators and casts the rest"
    return f"float16: ONNX Runtime casts to float32 on {where}: the gain is size and transfer, the casts cost time"
