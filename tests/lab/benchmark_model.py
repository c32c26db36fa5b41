#!/usr/bin/python3
"""A stand-in for TensorFlow Lite's benchmark_model on a virtual phone: no index has the Android program.

It takes the documented flags, really runs the model through LiteRT on the device it is on, and prints what the real
one prints (google-ai-edge/LiteRT, tflite/tools/benchmark; tflite/tools/command_line_flags.cc; tflite/tools/delegates;
xla/tsl/util/stats_calculator.cc). Flags that it does not know are a warning and nothing more, as there. What it
cannot know are single operators' times: Python's Interpreter tells none, so each gets an equal share of the run.
"""

from __future__ import annotations

import os
import random
import statistics
import sys
import time
from typing import Any, NoReturn

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

# Changed by tests that need an older program: no percentiles, none of these flags, one column more.
OLD = False
LATER = {"output_filepath", "output_proto_filepath", "op_profiling_output_mode", "op_profiling_output_file"}

Flags = dict[str, Any]
DEFAULTS: Flags = {
    **{"num_runs": 50, "min_secs": 1.0, "max_secs": 150.0, "run_delay": -1.0, "run_frequency": -1.0},
    **{"num_threads": -1, "warmup_runs": 1, "warmup_min_secs": 0.5, "verbose": False, "dry_run": False},
    **{"report_peak_memory_footprint": False, "memory_footprint_check_interval_ms": 50, "graph": ""},
    **{"signature_to_run_for": "", "input_layer": "", "input_layer_shape": "", "input_layer_value_range": ""},
    **{"input_layer_value_files": "", "allow_fp16": False, "require_full_delegation": False},
    **{"enable_op_profiling": False, "op_profiling_output_mode": "stdout", "op_profiling_output_file": ""},
    **{"max_profiling_buffer_entries": 1024, "profiling_output_csv_file": "", "output_filepath": ""},
    **{"output_proto_filepath": "", "use_gpu": False, "use_nnapi": False, "use_xnnpack": False, "help": False},
}
PRINTED = {
    **{"num_runs": "Min num runs", "min_secs": "Min runs duration (seconds)", "num_threads": "Num threads"},
    **{"max_secs": "Max runs duration (seconds)", "warmup_runs": "Min warmup runs", "graph": "Graph"},
    **{"warmup_min_secs": "Min warmup runs duration (seconds)", "input_layer": "Input layers"},
    **{"input_layer_shape": "Input shapes", "input_layer_value_files": "Input value files"},
    **{"enable_op_profiling": "Enable op profiling", "use_gpu": "Use gpu", "use_xnnpack": "Use xnnpack"},
    **{"use_nnapi": "Use NNAPI", "output_filepath": "File path to export outputs layer to"},
}


def say(severity: str, text: str) -> None:
    print(f"{severity}: {text}", file=sys.stdout if severity in ("INFO", "WARN") else sys.stderr, flush=True)


def fatal(text: str) -> NoReturn:
    say("FATAL", text)
    os.abort()


def fail(text: str = "") -> NoReturn:
    if text:
        say("ERROR", text)
    say("ERROR", "Benchmarking failed.")
    sys.exit(1)


def parse(words: list[str]) -> tuple[Flags, set[str]]:
    flags, given, left = dict(DEFAULTS), set(), []
    for word in words:
        name, equals, text = word.removeprefix("--").partition("=")
        if not word.startswith("--") or not equals or name not in DEFAULTS or (OLD and name in LATER):
            left.append(word)
            continue
        kind = type(DEFAULTS[name])
        if kind is bool and text not in ("true", "false", "0", "1"):
            fail(f"Failed to parse flag '{name}' against argv '{word}'")
        flags[name] = text in ("true", "1") if kind is bool else kind(text)
        given.add(name)
    if left:
        say("WARN", f"Unconsumed cmdline flags: {' '.join(left)}")
    return flags, given


def stats(times_us: list[int]) -> str:
    if not times_us:
        return "count=0" + ("" if OLD else " p5=0 median=0 p95=0")
    ordered = sorted(times_us)
    tail = "" if OLD else " p5={} median={} p95={}".format(*(ordered[len(ordered) * p // 100] for p in (5, 50, 95)))
    if ordered[0] == ordered[-1]:
        same = "(all same)" if len(times_us) > 1 else ""
        return f"count={len(times_us)} curr={times_us[-1]}{same}{tail}"
    mean, std = statistics.fmean(times_us), statistics.pstdev(times_us)
    return (
        f"count={len(times_us)} first={times_us[0]} curr={times_us[-1]} min={ordered[0]} max={ordered[-1]} "
        f"avg={mean:.6g} std={int(std)}{tail}"
    )


def measure(invoke: Any, runs: int, min_s: float, max_s: float) -> list[int]:
    say("INFO", f"Running benchmark for at least {runs} iterations and at least {min_s:g} seconds but terminate if "
                f"exceeding {max_s:g} seconds.")  # fmt: skip
    times, origin, now = [], time.perf_counter(), time.perf_counter()
    while (len(times) < runs or now - origin < min_s) and now - origin <= max_s:
        before = time.perf_counter()
        invoke()
        now = time.perf_counter()
        times.append(int((now - before) * 1e6))
    say("INFO", stats(times) + "\n")
    return times


def open_model(flags: Flags, given: set[str]) -> Any:
    plain = "use_xnnpack" in given and not flags["use_xnnpack"]
    resolver = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES if plain else OpResolverType.BUILTIN
    threads = flags["num_threads"] if flags["num_threads"] > 0 else None
    try:
        interpreter = Interpreter(flags["graph"], num_threads=threads, experimental_op_resolver_type=resolver)
    except ValueError as error:
        say("ERROR", str(error).splitlines()[0])
        fail(f"Failed to load model {flags['graph']}")
    say("INFO", f"Loaded model {flags['graph']}")
    return interpreter


def place(interpreter: Any, given: set[str], flags: Flags) -> tuple[list[str], int]:
    """The kinds of nodes that run, in order, and how many of them are delegates' nodes."""
    nodes = interpreter._get_ops_details()
    delegates = [n for n in nodes if n["op_name"] == "DELEGATE"]
    plain = [n for n in nodes if n["op_name"] != "DELEGATE"]
    maker = {int(t): n for n in (*plain, *delegates) for t in n["outputs"]}
    waiting, run = [int(d["index"]) for d in interpreter.get_output_details()], {}
    while waiting:
        node = maker.get(waiting.pop())
        if node is not None and node["index"] not in run:
            run[node["index"]] = node
            waiting += [int(t) for t in node["inputs"] if t >= 0]
    kept = [n for n in run.values() if n["op_name"] != "DELEGATE"]
    used = [n for n in run.values() if n["op_name"] == "DELEGATE"]
    if used:
        print(f"VERBOSE: Replacing {len(plain) - len(kept)} out of {len(plain)} node(s) with delegate "
              f"(TfLiteXNNPackDelegate) node, yielding {len(kept) + len(used)} partitions for the whole graph.",
              file=sys.stderr)  # fmt: skip
    if flags["use_xnnpack"] and used:
        way = "completely executed by the delegate." if not kept else (
            f"partially executed by the delegate w/ {len(used)} delegate kernels.")  # fmt: skip
        say("INFO", f"Explicitly applied XNNPACK delegate, and the model graph will be {way}")
    elif flags["use_xnnpack"]:
        say(
            "INFO",
            "Though XNNPACK delegate is explicitly applied, the model graph will not be executed by the delegate.",
        )
    ordered = sorted(run.values(), key=lambda n: int(n["index"]))
    return ["TfLiteXNNPackDelegate" if n in used else n["op_name"] for n in ordered], len(used)


def feed(interpreter: Any, flags: Flags) -> list[Any]:
    details = interpreter.get_input_details()
    names = flags["input_layer"].split(",") if flags["input_layer"] else []
    shapes = flags["input_layer_shape"].split(":") if flags["input_layer_shape"] else []
    if len(names) != len(shapes):
        fail(
            f"The number of items in --input_layer_shape ({flags['input_layer_shape']}, with {len(shapes)} items) "
            f"must match the number of items in --input_layer ({flags['input_layer']}, with {len(names)} items)."
        )
    if names and len(names) != len(details):
        fatal(f"Inputs mismatch: Model inputs #:{len(names)} expected: {len(details)}")
    files = dict(item.split(":") for item in flags["input_layer_value_files"].split(",") if item)
    for name in files:
        if name not in names:
            fatal(f"Cannot find the corresponding input_layer name({name}) in --input_layer as {flags['input_layer']}")
    for name, shape, detail in zip(names, shapes, details):
        if name != detail["name"]:
            say("WARN", f"Tensor # {detail['index']} is named {detail['name']} but flags call it {name}")
        size = [int(axis) for axis in shape.split(",")]
        if len(size) != len(detail["shape"]):
            fail(f"Input tensor #{detail['index']} should have {len(detail['shape'])} dimensions!")
        if size != list(detail["shape"]):
            interpreter.resize_tensor_input(detail["index"], size)
    interpreter.allocate_tensors()
    tensors = []
    for number, detail in enumerate(interpreter.get_input_details()):
        shape, dtype = tuple(detail["shape"]), np.dtype(detail["dtype"])
        file = files.get(names[number]) if names else None
        if file is None:
            source = np.random.default_rng(random.randrange(1 << 30))
            tensors.append((source.random(shape) * 100).astype(dtype))
            continue
        with open(file, "rb") as opened:
            data = opened.read()
        wanted = int(np.prod(shape)) * dtype.itemsize
        if len(data) != wanted:
            fatal(f"The size of {file} is {len(data)} bytes. It should be {wanted} bytes.")
        tensors.append(np.frombuffer(data, dtype).reshape(shape))
    return tensors


def table(kinds: list[str], times_us: list[int], csv: bool) -> str:
    """As StatsCalculator writes it; every node has an equal share."""
    each_ms = statistics.fmean(times_us) / len(kinds) / 1e3
    first_ms, share = times_us[0] / len(kinds) / 1e3, 100.0 / len(kinds)
    columns = [
        "node type",
        *(["start"] if OLD else []),
        "first",
        "avg_ms",
        "%",
        "cdf%",
        "mem KB",
        "times called",
        "name",
    ]
    heads = ["[node type]", *(["[start]"] if OLD else []), "[first]", "[avg ms]", "[%]", "[cdf%]", "[mem KB]"]
    lines = ["============================== Run Order =============================="]
    lines.append(", ".join(columns) if csv else "\t" + "\t".join([*heads, "[times called]", "[Name]"]))
    for number, kind in enumerate(kinds):
        start = [f"{number * each_ms:.3f}"] if OLD else []
        cells = [kind, *start, f"{first_ms:.3f}", f"{each_ms:.3f}", f"{share:.3f}%", f"{share * (number + 1):.3f}%"]
        cells += ["0.000" if not csv else "0", "1", f"[node {number}]:{number}"]
        lines.append(", ".join(cells) if csv else "\t" + "\t".join(cells))
    total = [round(us) for us in times_us]
    lines += [
        "",
        f"Timings (microseconds): {stats_plain(total)}",
        "Memory (bytes): count=0",
        f"{len(kinds)} nodes observed",
    ]
    return "\n".join(lines) + "\n\n"


def stats_plain(times_us: list[int]) -> str:
    return stats(times_us).partition(" p5=")[0]


def main() -> None:
    say("INFO", "STARTING!")
    flags, given = parse(sys.argv[1:])
    if flags["help"] or "--help" in sys.argv[1:]:
        fail("usage: benchmark_model <flags>")
    if not flags["graph"]:
        fail("Please specify the name of your TF Lite input file with --graph")
    say("INFO", f"Log parameter values verbosely: [{int(flags['verbose'])}]")
    for name, words in PRINTED.items():
        if name in given:
            value = flags[name]
            shown = int(value) if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else value
            say("INFO", f"{words}: [{shown}]")
    began = time.perf_counter()
    interpreter = open_model(flags, given)
    for name, what in (("use_gpu", "GPU"), ("use_nnapi", "NNAPI")):
        if flags[name]:
            say("WARN", f"{what} acceleration is unsupported on this platform.")
            if flags["require_full_delegation"]:
                fail("Disallowed CPU fallback detected.")
    tensors = feed(interpreter, flags)
    kinds, _ = place(interpreter, given, flags)
    init_us = int((time.perf_counter() - began) * 1e6)
    say("INFO", f"The input model file size (MB): {os.path.getsize(flags['graph']) / 1e6:g}")
    say("INFO", f"Initialized session in {init_us / 1e3:g}ms.")
    indices = [detail["index"] for detail in interpreter.get_input_details()]

    def invoke() -> None:
        for index, tensor in zip(indices, tensors):
            interpreter.set_tensor(index, tensor)
        interpreter.invoke()

    warm = measure(invoke, flags["warmup_runs"], flags["warmup_min_secs"], flags["max_secs"])
    times = measure(invoke, flags["num_runs"], flags["min_secs"], flags["max_secs"])
    say("INFO", f"Inference timings in us: Init: {init_us}, First inference: {warm[0] if warm else 0}, "
                f"Warmup (avg): {statistics.fmean(warm) if warm else 0:.6g}, "
                f"Inference (avg): {statistics.fmean(times) if times else 0:.6g}")  # fmt: skip
    say("INFO", "Note: as the benchmark tool itself affects memory footprint, the following is only APPROXIMATE.")
    say("INFO", "Memory footprint delta from the start of the tool (MB): init=1 overall=1")
    if flags["report_peak_memory_footprint"]:
        with open("/proc/self/status") as lines:
            status = dict(line.split(":", 1) for line in lines if ":" in line)
        peak, resident = (int(status[key].split()[0]) / 1024 for key in ("VmHWM", "VmRSS"))
        say("INFO", f"Overall peak memory footprint (MB) via periodic monitoring: {peak:g}")
        if not OLD:
            say("INFO", f"Memory status at the end of exeution:\nINFO: - VmRSS              : {int(resident)} MB")
    if flags["enable_op_profiling"] and times:
        mode, path = flags["op_profiling_output_mode"], flags["op_profiling_output_file"]
        head = "Operator-wise Profiling Info for Regular Benchmark Runs:\n"
        text = head + table(kinds, times, mode == "csv")
        if path:
            with open(path, "w") as file:
                file.write(text)
        else:
            say("INFO", text)
    if flags["output_filepath"]:
        with open(flags["output_filepath"], "wb") as file:
            for detail in interpreter.get_output_details():
                file.write(interpreter.get_tensor(detail["index"]).tobytes())


if __name__ == "__main__":
    main()
