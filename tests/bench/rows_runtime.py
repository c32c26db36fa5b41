"""Runtime rows in one process: R1 to R4."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bench import bundles, graphs
from bench.measure import Claim, Group
from edgekit.runtimes.graph import Settings
from edgekit.runtimes.loading import load_graph
from edgekit.specs.tensor import Port, TensorInput

SETTINGS = Settings(threads=1, spinning=False, providers=(), cache=None)


def bundle(path: Path, model: Path, runtime: str, shape: tuple[int, int], names: tuple[str, str]) -> Path:
    """A bundle that takes and gives one float32 tensor."""
    file = f"model{model.suffix}"
    graph = bundles.graph(
        file,
        runtime,
        [Port(name=names[0], value="x", datatype="FP32", shape=shape, quantization=None)],
        [Port(name=names[1], value="y", datatype="FP32", shape=shape, quantization=None)],
    )
    taken = TensorInput(kind="tensor", value="x", datatype="FP32", shape=shape)
    return bundles.write(path, {"x": taken}, (graph,), {file: model.read_bytes()})


def session(model: Path) -> Any:
    """A bare session on one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def onnx_calls(folder: Path) -> Iterator[Group]:
    """R1, R2, R3: predict, stream and bound steps against session.run with the same array."""
    import edgekit

    dense = graphs.dense(folder / "dense.onnx", 1024, 24)  # memory-bound, a few milliseconds
    for row, name, model, width in (
        ("R1", "one operator", graphs.one_op(folder / "one.onnx"), 4),
        ("R2", "24 layers, 100 MB", dense, 1024),
    ):
        x = np.ones((1, width), np.float32)
        bare = session(model)
        predictor = edgekit.load(bundle(folder / f"{row}.edgekit", model, "onnxruntime", (1, width), ("x", "y")))
        loaded = load_graph("onnxruntime", model, SETTINGS, None)
        bound = loaded.bind({}, {})
        binding = _floor(bare, x)
        stream = predictor.stream()
        variants = {
            "predict": lambda p=predictor, x=x: p.predict(x=x),
            "session.run": lambda s=bare, f={"x": x}: s.run(None, f),
            "session.run, names given": lambda s=bare, f={"x": x}: s.run(["y"], f),
            "Graph.run": lambda g=loaded, f={"x": x}: g.run(f),
            "bound step": lambda b=bound, f={"x": x}: b.run(f),
            "stream.push": lambda s=stream, x=x: s.push(x),
            "bound by hand": binding,
        }

        def difference(a: str, b: str, variants: Any = variants) -> str:
            return "" if "session" not in b else _equal(variants[a](), variants[b]())

        if row == "R1":
            claims = [
                Claim("R1 1 operator", "predict", "session.run", 1.4, 1.4, "bound by hand"),
                Claim("R1 1 operator", "Graph.run", "session.run", None, None, "bound by hand"),
                Claim("R3 1 operator", "bound step", "session.run", 0.5, 0.60, "bound by hand"),
                Claim("R3 1 operator", "stream.push", "session.run", None, None, "bound by hand"),
            ]
        else:
            claims = [Claim("R2 over 1 ms", "predict", "session.run", 1.01, 1.02)]
        yield Group(name, variants, claims, difference, "µs")


def _floor(bare: Any, x: Any) -> Any:
    """Buffers bound once, one copy in, none out."""
    import onnxruntime

    source, result = x.copy(), np.empty_like(x)
    binding = bare.io_binding()
    binding.bind_ortvalue_input("x", onnxruntime.OrtValue.ortvalue_from_numpy(source))
    binding.bind_ortvalue_output("y", onnxruntime.OrtValue.ortvalue_from_numpy(result))

    def step() -> Any:
        np.copyto(source, x)
        bare.run_with_iobinding(binding)
        return result

    return step


def _array(found: Any) -> Any:
    if isinstance(found, list):
        return _array(found[0])
    if isinstance(found, dict):
        return found["y"]
    return found.tensors["y"] if hasattr(found, "tensors") else found


def _equal(a: Any, b: Any) -> str:
    return "equal" if np.array_equal(_array(a), _array(b)) else f"max {np.abs(_array(a) - _array(b)).max():.1e}"


def litert_calls(folder: Path) -> Iterator[Group]:
    """R4: predict against set, invoke, get."""
    from ai_edge_litert.interpreter import Interpreter
    from graphs import affine_tflite

    import edgekit

    model = affine_tflite(folder / "affine.tflite", dynamic=False)
    x = np.ones((1, 4), np.float32)
    interpreter = Interpreter(model_path=str(model), num_threads=1)
    interpreter.allocate_tensors()
    given = interpreter.get_input_details()[0]["index"]
    made = interpreter.get_output_details()[0]["index"]
    predictor = edgekit.load(bundle(folder / "R4.edgekit", model, "litert", (1, 4), ("x", "y")))
    loaded = load_graph("litert", model, SETTINGS, None)

    def bare() -> Any:
        interpreter.set_tensor(given, x)
        interpreter.invoke()
        return interpreter.get_tensor(made)

    variants = {
        "predict": lambda: predictor.predict(x=x),
        "Graph.run": lambda: loaded.run({"x": x}),
        "set, invoke, get": bare,
    }

    def difference(a: str, b: str) -> str:
        return _equal(variants[a](), {"y": variants[b]()})

    claims = [
        Claim("R4 LiteRT, 1 operator", "predict", "set, invoke, get", None, 4.0, excess=True),
        Claim("R4 LiteRT, 1 operator", "Graph.run", "set, invoke, get", None, None, excess=True),
    ]
    yield Group("LiteRT", variants, claims, difference, "µs")
