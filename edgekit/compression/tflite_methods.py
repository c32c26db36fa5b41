"""Compress a TFLite file with ai-edge-quantizer. Host only; needs the extra `compress`.

fp16            weights in float16, arithmetic in float32
int8-dynamic    int8 weights per channel, data quantised in each call
int8-static     int8 weights and data, inputs and outputs too, ranges from calibration
int4            int4 weights per channel, restored to float32 before they are used
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.errors import GraphRefused, InputError, RuntimeMissing

if TYPE_CHECKING:
    from edgekit.compression.methods import Feeds, Method

TFLITE_METHODS = ("fp16", "int8-dynamic", "int8-static", "int4")
TFLITE_HINT = 'pip install "edgekit-sdk[compress]"'
CALIBRATION_THREADS = 2


def check_tflite_methods(methods: Sequence[Method]) -> None:
    """Raise InputError for what is no single method of a TFLite file."""
    for method in methods:
        if method.name not in TFLITE_METHODS:
            raise InputError(
                f"{method} works on ONNX graphs, not on TFLite",
                hint=f"of a TFLite variant: {', '.join(TFLITE_METHODS)}; or compress the ONNX variant and convert it",
            )
    if len(methods) > 1:
        raise InputError(
            f"a TFLite file takes one method, got {', '.join(map(str, methods))}",
            hint="each starts from the float32 file",
        )


def compress_tflite(source: Path, output: Path, methods: Sequence[Method], feeds: Feeds | None) -> None:
    """Apply the method. feeds: needed by int8-static. Raises InputError, GraphRefused, RuntimeMissing."""
    check_tflite_methods(methods)
    (method,) = methods
    if method.name == "int8-static" and feeds is None:
        raise InputError("int8-static needs data to calibrate on", hint="give --data")
    try:
        from ai_edge_quantizer import quantizer
    except ImportError as error:
        raise RuntimeMissing(
            f"{source.name}: {method} of a TFLite file needs ai-edge-quantizer ({error})", hint=TFLITE_HINT
        ) from None
    try:
        with _quiet():
            engine = quantizer.Quantizer(str(source))
            _ask(engine, method.name)
            ranges = _ranges(engine, source, feeds) if engine.need_calibration and feeds is not None else None
            made = engine.quantize(ranges, enable_progress_report=False).quantized_model
    except (InputError, GraphRefused):
        raise
    except Exception as error:  # the engine raises whatever it meets
        told = " ".join(str(error).split())[:300] or type(error).__name__
        raise GraphRefused(f"{source.name}: {method} failed ({told})") from None
    output.write_bytes(bytes(made))


def _ask(engine: Any, name: str) -> None:
    from ai_edge_quantizer import qtyping
    from ai_edge_quantizer.algorithm_manager import AlgorithmName

    every = (".*", qtyping.TFLOperationName.ALL_SUPPORTED)
    if name == "fp16":
        engine.add_weight_only_config(*every, num_bits=16, algorithm_key=AlgorithmName.FLOAT_CASTING)
    elif name == "int8-dynamic":
        engine.add_dynamic_config(*every, num_bits=8)
    elif name == "int8-static":
        engine.add_static_config(*every, activation_num_bits=8, weight_num_bits=8)
    else:
        engine.add_weight_only_config(*every, num_bits=4)


def _ranges(engine: Any, source: Path, feeds: Feeds) -> Any:
    """Least and largest number of each value over all the data. Raises GraphRefused without a signature.

    The engine's own call takes moving averages of them, which cuts off what is rare (20 dB worse on tridigit).
    """
    from ai_edge_litert.interpreter import Interpreter
    from ai_edge_quantizer import calibrator, recipe_manager
    from ai_edge_quantizer.utils.qsv_utils import min_max_update

    interpreter = Interpreter(model_path=str(source))
    signatures = interpreter.get_signature_list()
    if not signatures:
        raise GraphRefused(
            f"{source.name}: it has no signature, which the quantiser calibrates by",
            hint="int8-dynamic needs none, or convert it anew with a signature",
        )
    key = next(iter(signatures))
    tensors = {d["name"]: name for name, d in interpreter.get_signature_runner(key).get_input_details().items()}
    given = [{tensors.get(name, name): array for name, array in feed.items()} for feed in feeds()]
    asked = recipe_manager.RecipeManager()
    asked.load_quantization_recipe(engine.get_quantization_recipe())
    found = calibrator.Calibrator(source.read_bytes(), num_threads=CALIBRATION_THREADS, qsv_update_func=min_max_update)
    found.calibrate({key: given}, asked)
    return found.get_model_qsvs()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The engine draws bars on stderr and warns of its own use of the interpreter."""
    quiet = contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO())
    with quiet[0], quiet[1], warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def rounding_of(graph: Mapping[str, Any], methods: Sequence[Method]) -> dict[str, Any]:
    """A recipe's graph with the rounding of its inputs, which int8-static makes integers."""
    quantised = any(m.name == "int8-static" for m in methods)
    return {**graph, "rounding": "nearest_even"} if quantised and "rounding" not in graph else dict(graph)
