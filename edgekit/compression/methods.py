"""Compress an ONNX file: each method reads one file and writes another. Host only; needs onnx, and onnxruntime's
quantisers for fp16 and int8.

A method is written NAME or NAME:AMOUNT:
  fp16                      weights and arithmetic in float16, float32 at both ends
  int8-dynamic              int8 weights, data quantised in each call
  int8-static               int8 weights and data (QDQ), ranges from calibration
  int4                      int4 weights in blocks of 32 (MatMulNBits)
  prune:SHARE               W' = W * M, the smallest magnitudes of each weight are zero
  prune-channels:SHARE      whole output channels, by their L2 norm: taken out, zeroed where the graph does not allow it
  mask-channels:SHARE       the same channels, zeroed only
  low-rank:ENERGY           W ~ U V^T by truncated SVD, keeping this share of the squared singular values
  cluster:VALUES            W = codebook[index], by k-means; restored by a Gather in the graph
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from edgekit.arrays import Array
from edgekit.compression.channel_cuts import prune_channels
from edgekit.compression.weight_edits import cluster, drop_unused, int4_blocks, low_rank, prune
from edgekit.errors import GraphRefused, InputError, RuntimeMissing

INSTALL_HINT = 'pip install "edgekit-sdk[compress]"'

Feeds = Callable[[], Iterator[Mapping[str, Array]]]
"""The graph's inputs for calibration, from the user's data through the same preprocessing."""


class Method(NamedTuple):
    """A method with its amount, null for those that take none."""

    name: str
    amount: float | None

    def __str__(self) -> str:
        return self.name if self.amount is None else f"{self.name}:{self.amount:g}"


class Kind(NamedTuple):
    """What a method is. amount: lowest and highest that it takes, null for none. precision: of its result, null: as
    before."""

    amount: tuple[float, float] | None
    precision: str | None


METHODS: dict[str, Kind] = {
    "fp16": Kind(None, "float16"),
    "int8-dynamic": Kind(None, "int8"),
    "int8-static": Kind(None, "int8"),
    "int4": Kind(None, "int4"),
    "prune": Kind((0.01, 0.99), None),
    "prune-channels": Kind((0.01, 0.9), None),
    "mask-channels": Kind((0.01, 0.9), None),
    "low-rank": Kind((0.5, 0.9999), None),
    "cluster": Kind((2, 256), None),
}


def parse_method(text: str) -> Method:
    """NAME or NAME:AMOUNT. Raises InputError."""
    match = re.fullmatch(r"([a-z0-9-]+)(?::(\d{1,4}(?:\.\d{1,6})?))?", text)
    kind = METHODS.get(match[1]) if match else None
    if match is None or kind is None:
        raise InputError(f"no method {text!r}", hint=f"one of: {', '.join(METHODS)}")
    if (kind.amount is None) != (match[2] is None):
        wanted = "no amount" if kind.amount is None else f"an amount, like {match[1]}:{_example(match[1])}"
        raise InputError(f"{match[1]} takes {wanted}, got {text!r}")
    amount = None if match[2] is None else float(match[2])
    if kind.amount is not None and amount is not None and not kind.amount[0] <= amount <= kind.amount[1]:
        raise InputError(f"{match[1]}: expected {kind.amount[0]:g} to {kind.amount[1]:g}, got {amount:g}")
    return Method(match[1], amount)


def _example(name: str) -> str:
    return {"prune": "0.7", "prune-channels": "0.25", "mask-channels": "0.25", "low-rank": "0.9", "cluster": "16"}[name]


def precision_after(methods: Sequence[Method], before: str) -> str:
    """The precision class of the result."""
    found = before
    for method in methods:
        found = METHODS[method.name].precision or found
    return found


def compress_onnx(
    source: Path,
    output: Path,
    methods: Sequence[Method],
    feeds: Feeds | None,
    note: Callable[[str], None] = lambda _: None,
) -> None:
    """Apply the methods in order. feeds: needed by int8-static. note: is told what a method could not do.

    Raises InputError, GraphRefused, RuntimeMissing.
    """
    at = source
    for i, method in enumerate(methods):
        made = output if i == len(methods) - 1 else output.with_suffix(f".{i}.onnx")
        try:
            with _quiet_engines():
                _apply(method, at, made, feeds, note)
        except ImportError as error:
            raise RuntimeMissing(f"{method}: needs onnx and onnxruntime ({error})", hint=INSTALL_HINT) from None
        except (InputError, GraphRefused):
            raise
        except Exception as error:  # the engines raise whatever they meet
            told = " ".join(str(error).split())[:300] or type(error).__name__
            raise GraphRefused(f"{source.name}: {method} failed ({told})") from None
        finally:
            if at != source:
                at.unlink(missing_ok=True)
        at = made


@contextmanager
def _quiet_engines() -> Iterator[None]:
    """onnxruntime's quantisers warn on the root logger whatever they are given."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def _apply(method: Method, source: Path, output: Path, feeds: Feeds | None, note: Callable[[str], None]) -> None:
    if method.name == "fp16":
        _half(source, output)
    elif method.name == "int8-dynamic":
        _dynamic(source, output)
    elif method.name == "int8-static":
        if feeds is None:
            raise InputError("int8-static needs data to calibrate on", hint="give --data")
        _static(source, output, feeds)
    else:
        _edit(method, source, output, note)


def _half(source: Path, output: Path) -> None:
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    model = convert_float_to_float16(onnx.load(str(source)), keep_io_types=True)
    output.write_bytes(model.SerializeToString())


def _dynamic(source: Path, output: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    # MatMul and Gather only: dynamic convolutions (ConvInteger) have slow kernels on every CPU.
    quantize_dynamic(
        str(source), str(output), weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul", "Gemm", "Gather"]
    )


def _static(source: Path, output: Path, feeds: Feeds) -> None:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # the engine's own protocol
        def __init__(self) -> None:
            self._left = feeds()

        def get_next(self) -> Mapping[str, Array] | None:
            return next(self._left, None)

    quantize_static(
        str(source),
        str(output),
        Reader(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        weight_type=QuantType.QInt8,
        activation_type=QuantType.QInt8,
        extra_options={"ActivationSymmetric": False, "WeightSymmetric": True},
    )


def _edit(method: Method, source: Path, output: Path, note: Callable[[str], None]) -> None:
    """Methods that change weights and the nodes around them."""
    import onnx

    model = onnx.load(str(source))
    amount = method.amount or 0.0
    if method.name == "prune":
        changed = prune(model, amount)
    elif method.name in ("prune-channels", "mask-channels"):
        changed = prune_channels(model, amount, cut=method.name == "prune-channels", note=note)
        drop_unused(model)
    elif method.name == "low-rank":
        changed = low_rank(model, amount)
    elif method.name == "cluster":
        changed = cluster(model, int(amount))
    else:
        changed = int4_blocks(model)
    # Nothing to change is no failure: of several graphs some may have no fitting layer.
    model.producer_name = (
        model.producer_name if not changed else f"{model.producer_name} + edgekit {method}".strip(" +")
    )
    output.write_bytes(model.SerializeToString())
