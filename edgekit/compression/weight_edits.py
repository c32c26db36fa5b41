"""Edits of an ONNX model's weights, in place: pruning, factors, clusters, int4 blocks. Needs the onnx package.

Each takes a ModelProto and gives the number of weights that it changed. Only float32 weights of Conv, Gemm and MatMul
in the main graph are touched, small ones are left.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from edgekit.arrays import Array

MIN_ELEMENTS = 256
INT4_BLOCK = 32
KMEANS_ROUNDS = 25


class Weight(NamedTuple):
    """A weight in its layer. outputs: the axis of its output channels."""

    node: Any
    name: str
    array: Array
    outputs: int


def weights_of(model: Any) -> list[Weight]:
    """The float32 weights of linear layers, each once."""
    from onnx import TensorProto, numpy_helper

    stored = {t.name: t for t in model.graph.initializer if t.data_type == TensorProto.FLOAT}
    found: list[Weight] = []
    seen: set[str] = set()
    for node in model.graph.node:
        if node.op_type not in ("Conv", "Gemm", "MatMul") or len(node.input) < 2 or node.input[1] not in stored:
            continue
        name = node.input[1]
        array = numpy_helper.to_array(stored[name])
        if array.size < MIN_ELEMENTS or array.ndim < 2 or name in seen:
            continue
        seen.add(name)
        last = node.op_type == "MatMul" or (node.op_type == "Gemm" and not attribute(node, "transB", 0))
        found.append(Weight(node, name, array, array.ndim - 1 if last else 0))
    return found


def attribute(node: Any, name: str, default: int) -> int:
    """A whole-number attribute of a node."""
    return next((int(a.i) for a in node.attribute if a.name == name), default)


def put(model: Any, name: str, array: Array) -> None:
    """Replace an initializer, or add it."""
    from onnx import numpy_helper

    made = numpy_helper.from_array(np.ascontiguousarray(array), name)
    for tensor in model.graph.initializer:
        if tensor.name == name:
            tensor.CopyFrom(made)
            return
    model.graph.initializer.append(made)


def names_read(graph: Any) -> set[str]:
    """What the nodes of a graph, and of the graphs inside it, read; and its outputs."""
    found = {name for node in graph.node for name in node.input} | {o.name for o in graph.output}
    for node in graph.node:
        for item in node.attribute:
            for inner in (*([item.g] if item.HasField("g") else []), *item.graphs):
                found |= names_read(inner)
    return found


def drop_unused(model: Any) -> None:
    """Remove initializers that no node reads any more."""
    used = names_read(model.graph)
    kept = [t for t in model.graph.initializer if t.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)


def replace_node(model: Any, node: Any, made: list[Any]) -> None:
    """Put nodes in the place of one."""
    nodes = list(model.graph.node)
    at = next(i for i, other in enumerate(nodes) if other is node or other == node)
    nodes[at : at + 1] = made
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def prune(model: Any, share: float) -> int:
    """W' = W * M with M = |W| > the `share` quantile of |W|, for each weight."""
    found = weights_of(model)
    for weight in found:
        size = np.abs(weight.array)
        put(model, weight.name, weight.array * (size > np.quantile(size, share)))
    return len(found)


def low_rank(model: Any, energy: float) -> int:
    """W ~ U V^T: the smallest rank that keeps `energy` of the squared singular values' sum, where it saves numbers."""
    changed = 0
    for weight in weights_of(model):
        if weight.node.op_type == "Conv" and attribute(weight.node, "group", 1) != 1:
            continue
        matrix = _as_matrix(weight)
        u, s, v = np.linalg.svd(matrix.astype(np.float64), full_matrices=False)
        kept = np.cumsum(s**2) / max(float((s**2).sum()), 1e-30)
        rank = int(np.searchsorted(kept, energy) + 1)
        if rank * sum(matrix.shape) >= matrix.size:
            continue
        first, second = u[:, :rank] * s[:rank], v[:rank]
        _factor(model, weight, first.astype(np.float32), second.astype(np.float32))
        changed += 1
    drop_unused(model)
    return changed


def _as_matrix(weight: Weight) -> Array:
    """(summed, outputs)."""
    if weight.node.op_type == "Conv":
        return weight.array.reshape(weight.array.shape[0], -1).T
    return weight.array if weight.outputs else weight.array.T


def _factor(model: Any, weight: Weight, first: Array, second: Array) -> None:
    """Two layers in place of one; the bias stays with the second."""
    from onnx import helper

    node, rank = weight.node, first.shape[1]
    inner, names = f"{node.output[0]}_rank{rank}", (f"{weight.name}_u", f"{weight.name}_v")
    own = f"{node.name or node.output[0]}"
    rest = list(node.input[2:])
    if node.op_type == "Conv":
        put(model, names[0], first.T.reshape(rank, *weight.array.shape[1:]))
        put(model, names[1], second.T.reshape(weight.array.shape[0], rank, *([1] * (weight.array.ndim - 2))))
        squeeze = helper.make_node("Conv", [node.input[0], names[0]], [inner], name=f"{own}_u")
        squeeze.attribute.extend(a for a in node.attribute)
        made = [squeeze, helper.make_node("Conv", [inner, names[1], *rest], list(node.output), name=f"{own}_v")]
    else:
        put(model, names[0], first)
        put(model, names[1], second)
        made = [helper.make_node("MatMul", [node.input[0], names[0]], [inner], name=f"{own}_u")]
        product = f"{node.output[0]}_product" if rest else node.output[0]
        made.append(helper.make_node("MatMul", [inner, names[1]], [product], name=f"{own}_v"))
        if rest:
            made.append(helper.make_node("Add", [product, rest[0]], list(node.output), name=f"{own}_bias"))
    replace_node(model, node, made)


def cluster(model: Any, values: int) -> int:
    """W = codebook[index]: k-means over the numbers of each weight, index as uint8, restored by Cast and Gather."""
    from onnx import TensorProto, helper

    changed = 0
    for weight in weights_of(model):
        if weight.array.size < 4 * values:
            continue
        codebook, index = kmeans(weight.array.reshape(-1), values)
        table, codes = f"{weight.name}_codebook", f"{weight.name}_index"
        put(model, table, codebook)
        put(model, codes, index.reshape(weight.array.shape).astype(np.uint8))
        wide, restored = f"{codes}_wide", f"{weight.name}_restored"
        made = [
            helper.make_node("Cast", [codes], [wide], name=f"{codes}_cast", to=TensorProto.INT32),
            helper.make_node("Gather", [table, wide], [restored], name=f"{weight.name}_gather", axis=0),
        ]
        for node in model.graph.node:
            for i, name in enumerate(node.input):
                if name == weight.name:
                    node.input[i] = restored
        model.graph.node.extend(made)
        rotated = list(model.graph.node)
        del model.graph.node[:]
        model.graph.node.extend([*rotated[-len(made) :], *rotated[: -len(made)]])
        changed += 1
    drop_unused(model)
    return changed


def kmeans(numbers: Array, values: int) -> tuple[Array, Array]:
    """Codebook (float32, sorted) and index of each number: Lloyd's rounds from even quantiles."""
    data = numbers.astype(np.float64)
    centres = np.unique(np.quantile(data, (np.arange(values) + 0.5) / values))
    for _ in range(KMEANS_ROUNDS):
        index = np.searchsorted((centres[1:] + centres[:-1]) / 2, data)
        sums = np.bincount(index, weights=data, minlength=len(centres))
        counts = np.bincount(index, minlength=len(centres))
        moved = np.where(counts > 0, sums / np.maximum(counts, 1), centres)
        if np.array_equal(moved, centres):
            break
        centres = np.sort(moved)
    index = np.searchsorted((centres[1:] + centres[:-1]) / 2, data)
    return centres.astype(np.float32), index


def int4_blocks(model: Any) -> int:
    """MatMul and Gemm with int4 weights: q = round(w / scale) + 8 in blocks of 32 along the summed axis.

    The scale of a block is its largest number by magnitude over -8, as ONNX Runtime's own converter has it.
    """
    from onnx import helper

    changed = 0
    for weight in weights_of(model):
        if weight.node.op_type == "Conv" or attribute(weight.node, "transA", 0) or not _is_plain(weight.node):
            continue
        matrix = _as_matrix(weight).T  # (N, K)
        packed, scales = pack_int4(matrix)
        names = (f"{weight.name}_int4", f"{weight.name}_scales")
        put(model, names[0], packed)
        put(model, names[1], scales)
        node, rest = weight.node, list(weight.node.input[2:])
        product = f"{node.output[0]}_product" if rest else node.output[0]
        made = [
            helper.make_node(
                "MatMulNBits",
                [node.input[0], *names],
                [product],
                name=node.name or node.output[0],
                domain="com.microsoft",
                K=matrix.shape[1],
                N=matrix.shape[0],
                bits=4,
                block_size=INT4_BLOCK,
            )
        ]
        if rest:
            made.append(helper.make_node("Add", [product, rest[0]], list(node.output), name=f"{product}_bias"))
        replace_node(model, node, made)
        changed += 1
    if changed and not any(o.domain == "com.microsoft" for o in model.opset_import):
        model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    drop_unused(model)
    return changed


def _is_plain(node: Any) -> bool:
    """A Gemm without factors of its own (alpha, beta)."""
    return all(a.f == 1.0 for a in node.attribute if a.name in ("alpha", "beta"))


def pack_int4(matrix: Array) -> tuple[Array, Array]:
    """(N, K) float32 -> uint8 (N, blocks, 16), two numbers in a byte, low half first; float32 scales (N * blocks,)."""
    rows, columns = matrix.shape
    blocks = -(-columns // INT4_BLOCK)
    padded = np.zeros((rows, blocks * INT4_BLOCK), np.float32)
    padded[:, :columns] = matrix
    parts = padded.reshape(rows, blocks, INT4_BLOCK)
    at = np.abs(parts).argmax(axis=2)
    largest = np.take_along_axis(parts, at[..., None], axis=2)
    scales = largest / np.float32(-8)
    safe = np.where(scales == 0, np.float32(1), scales)
    codes = np.clip(np.rint(parts / safe) + 8, 0, 15).astype(np.uint8)
    return codes[..., 0::2] | (codes[..., 1::2] << 4), scales.reshape(-1)
