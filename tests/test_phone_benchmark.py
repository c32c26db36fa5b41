"""benchmark_model's flags and both output formats, read strictly; a phone's sensors; who runs the graph, said loudly.

The fixtures say where their lines come from.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.devices.facts import Facts
from edgekit.errors import BackendError, GraphRefused, InputError, TargetError, TransportError
from edgekit.operations.phone_graph import layer_names, output_shapes
from edgekit.operations.runner import find_runner, usable_runner
from edgekit.profiling.android_sensors import STATUS, parse_reading, phone_snapshot, thermal_status
from edgekit.profiling.benchmark_model import (
    BenchmarkLog,
    arguments,
    complaints,
    parse_log,
    parse_timings,
    placement,
)
from edgekit.profiling.benchmark_operators import CPU, operators_of, parse_operators
from edgekit.profiling.options import options_for
from edgekit.profiling.phone_cells import (
    PROCESSES,
    Block,
    memory_of,
    nodes_by,
    placed,
    process_rules,
    samples_of,
    ways,
)
from edgekit.runtimes.graph import TensorSpec

FIXTURES = Path(__file__).parent / "fixtures" / "benchmark_model"


def read(name: str) -> str:
    return (FIXTURES / name).read_text()


def log(name: str) -> BenchmarkLog:
    return parse_log(read(name), "")


def test_the_published_runs_are_read_to_the_last_figure() -> None:
    cpu, gpu, old, new = map(log, ("xnnpack_whole.txt", "gpu_whole.txt", "old_without_prefix.txt", "percentiles.txt"))
    assert (cpu.measured.runs, cpu.measured.mean, cpu.measured.std) == (1061, 56265.8, 982)
    assert (cpu.warmup.runs, cpu.warmup.first, cpu.init_us, cpu.first_us) == (9, 81913, 3337, 81913)
    assert (cpu.measured.median, cpu.measured.p95) == (None, None)
    assert cpu.peak_bytes == round(93.2383 * 2**20)
    assert (gpu.init_us, gpu.measured.min, gpu.measured.max) == (842225, 30394, 42335)
    assert (old.warmup.runs, old.warmup.mean, old.measured.mean) == (1, 3512391, 2950340)
    assert (new.measured.p5, new.measured.median, new.measured.p95) == (140545, 141253, 187533)
    assert new.resident_bytes == 118 << 20


@pytest.mark.parametrize("gone", ["Inference timings in us", "count=1061", "count=9"])
def test_a_log_that_lacks_a_line_is_refused_by_its_name(gone: str) -> None:
    lines = [line for line in read("xnnpack_whole.txt").splitlines() if gone not in line]
    with pytest.raises(BackendError, match=r"Inference timings|statistics"):
        parse_log("\n".join(lines), "")


def test_two_means_that_differ_are_refused() -> None:
    with pytest.raises(BackendError, match="two means"):
        parse_log(read("xnnpack_whole.txt").replace("Inference (avg): 56265.8", "Inference (avg): 46265.8"), "")


@pytest.mark.parametrize(
    "line",
    ["count=", "count=3 curr=", "count=3 first=1", "count=3 first=1 curr=2 min=1 max=2 avg=x std=1", "count=-1 curr=2"],
)
def test_statistics_of_another_form_are_refused(line: str) -> None:
    with pytest.raises(BackendError, match="cannot be read"):
        parse_timings(line)


@pytest.mark.parametrize(
    ("line", "runs", "mean", "median"),
    [
        ("count=0", 0, None, None),
        ("count=0 p5=0 median=0 p95=0", 0, None, None),
        ("count=1 curr=7", 1, 7, None),
        ("count=4 curr=7(all same) p5=7 median=7 p95=7", 4, 7, 7),
    ],
)
def test_none_one_and_equal_runs(line: str, runs: int, mean: float | None, median: float | None) -> None:
    told = parse_timings(line)
    assert (told.runs, told.mean, told.median) == (runs, mean, median)


def test_a_flag_that_the_binary_left_aside_is_seen() -> None:
    """command_line_flags.cc only warns: the run goes on without it."""
    said = "WARN: Unconsumed cmdline flags: --use_npu=true --output_filepath=/x\n" + read("gpu_whole.txt")
    assert parse_log(said, "").unknown_flags == ("--use_npu=true", "--output_filepath=/x")
    assert arguments({"graph": "/a b", "use_gpu": True, "num_threads": 4}) == [
        "--graph=/a b",
        "--use_gpu=true",
        "--num_threads=4",
    ]


def test_who_runs_the_graph_is_said_and_a_fallback_loudly() -> None:
    whole, partial = log("gpu_whole.txt"), log("percentiles.txt")
    assert placement(whole, "GPU") == ("TfLiteGpuDelegateV2: 58 of 58 nodes in 1 part", True)
    assert placement(log("xnnpack_whole.txt"), "XNNPACK")[1]
    assert placement(log("old_without_prefix.txt"), None) == ("the runtime's own CPU kernels", True)
    gpu = next(way for way in ways((), 4) if way.delegate == "GPU")
    words, loud = placed(gpu, {"image": partial})
    assert words == "image: TfLiteGpuDelegateV2: 29 of 31 nodes in 5 parts"
    assert loud == ("gpu: image: 29 of 31 nodes on TfLiteGpuDelegateV2, the other 2 on the CPU",)
    assert nodes_by(partial, CPU) == {"TfLiteGpuDelegateV2": 29, CPU: 2}
    fell_back = (
        "WARN: GPU acceleration is unsupported on this platform.\n" + read("xnnpack_whole.txt"),
        read("xnnpack_whole.txt")
        + "INFO: Though GPU delegate is explicitly applied, the model graph will not be executed by the delegate.\n",
        read("xnnpack_whole.txt"),
    )
    for said in fell_back:
        _, loud = placed(gpu, {"image": parse_log(said, "")})
        assert len(loud) == 1
        assert loud[0].startswith("FALLBACK: gpu: image runs on the CPU, not on GPU")


def test_what_a_failed_run_said() -> None:
    said = complaints(
        "INFO: STARTING!\n", "ERROR: Failed to load model x\nERROR: Benchmarking failed.\nERROR: Failed to load model x"
    )
    assert said == "Failed to load model x"
    assert complaints("", "") == "it said nothing"


def test_both_forms_of_the_operator_profile_hold_the_same_nodes() -> None:
    csv, text = parse_operators(read("operators.csv")), parse_operators(read("operators.txt"))
    assert csv == text
    assert [(row.kind, row.mean_ms, row.calls) for row in csv.rows] == [
        ("CONV_2D", 4.269, 1),
        ("DEPTHWISE_CONV_2D", 2.15, 1),
        ("SPLIT", 3.61, 1),
    ]
    assert csv.rows[2].name == "[a, b]:2"
    assert (csv.whole.runs, csv.whole.mean) == (50, 10029)
    table = operators_of("image", csv, plain_ms=8.0, placed={CPU: 3}, notes=())
    assert [op.op for op in table.operators] == ["CONV_2D", "SPLIT", "DEPTHWISE_CONV_2D"]
    assert table.sum_share == pytest.approx(1.0)
    assert table.inflation == pytest.approx(10.029 / 8.0)
    assert sum(table.by_op.values()) == pytest.approx(1.0)


def test_operators_inside_a_delegate_replace_its_node() -> None:
    """DELEGATE_PROFILED_OPERATOR_INVOKE_EVENT: named Delegate/..., beside the delegate's own node."""
    text = (
        "Operator-wise Profiling Info for Regular Benchmark Runs:\n"
        "============================== Run Order ==============================\n"
        "node type, first, avg_ms, %, cdf%, mem KB, times called, name\n"
        "TfLiteXNNPackDelegate, 10, 10, 50%, 50%, 0, 1, [out]:9\n"
        "Convolution (NHWC), 9, 9, 45%, 95%, 0, 1, Delegate/Convolution (NHWC):0\n\n"
        "Timings (microseconds): count=5 curr=19000(all same)\n"
    )
    placed_by = {"TfLiteXNNPackDelegate": 9}
    table = operators_of("image", parse_operators(text), plain_ms=None, placed=placed_by, notes=())
    assert [(op.op, op.provider) for op in table.operators] == [("Convolution (NHWC)", "TfLiteXNNPackDelegate")]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("Operator-wise Profiling Info for Regular Benchmark Runs:", ""),
        ("node type, first", "kind, first"),
        ("avg_ms, %", "avg_ms, watts"),
        ("CONV_2D, 4.269, 4.269", "CONV_2D, 4.269, fast"),
        ("CONV_2D, 4.269, 4.269, 42.5%, 42.5%, 0, 1, [MobilenetV1", "CONV_2D, 4.269 [MobilenetV1"),
        ("Timings (microseconds): count=50", "Timings: count=50"),
    ],
)
def test_an_operator_profile_of_another_form_is_refused(before: str, after: str) -> None:
    text = read("operators.csv")
    assert before in text
    with pytest.raises(BackendError):
        parse_operators(text.replace(before, after))


def test_ways_begin_with_what_an_app_gets_and_cover_every_delegate() -> None:
    found = ways((), 4)
    assert [way.name for way in found] == [
        *("xnnpack threads=4", "xnnpack threads=1", "cpu threads=4", "cpu threads=1", "gpu", "nnapi"),
    ]
    assert found[2].flags == {"num_threads": 4, "use_xnnpack": False}
    assert [way.name for way in ways((2,), 4)] == ["xnnpack threads=2", "cpu threads=2", "gpu", "nnapi"]


def test_processes_add_up_to_the_runs_and_seconds_that_were_asked_for() -> None:
    processes, flags = process_rules(options_for("x"))
    assert processes == PROCESSES
    assert processes * int(str(flags["num_runs"])) >= 100
    assert processes * float(str(flags["min_secs"])) >= 10.0
    assert process_rules(options_for("x", min_runs=3, min_s=0.3))[0] == 3


def test_a_sample_is_a_process_and_keeps_everything_it_told() -> None:
    """Two graphs, one of them twice: the whole is their sum; an older binary's mean stands for its median."""
    new, old = log("percentiles.txt"), log("xnnpack_whole.txt")
    samples = samples_of(
        [Block(5.0, {"image": (new, 1), "text": (old, 2)}), Block(6.5, {"image": (new, 1), "text": (old, 2)})]
    )
    assert samples.total_ms == pytest.approx([141.253 + 2 * 56.2658] * 2)
    assert samples.stages_ms["graph:image"] == pytest.approx([141.253] * 2)
    assert samples.details["graph:image.p95_ms"] == pytest.approx([187.533] * 2)
    assert samples.details["graph:text.runs"] == (1061.0, 1061.0)
    assert "graph:text.p95_ms" not in samples.details
    assert samples.start_s == (0.0, 1.5)
    assert memory_of(ways((), 4)[0], [new, old]).peak_bytes == round(120.5 * 2**20)


def test_the_sensors_of_a_phone_and_what_its_shell_may_not_read() -> None:
    reading = parse_reading(read("android_sensors.txt").splitlines(), "phone")
    values = {item.name: item.value for item in reading.measured}
    assert values["temp.battery"] == 35.7
    assert values["temp.BIG"] == 47.0
    assert values["temp.neutral_therm"] == 33.931
    assert "temp.nsp0" not in values  # cached, and of no running board
    assert (values["clock.policy0"], values["clock.policy6"]) == (1803.0, 2802.0)
    denied = next(item for item in reading.measured if item.name == "temp.TPU")
    assert denied.value is None
    assert "Permission denied" in str(denied.reason)
    assert reading.battery.text == "19 %, charging, fed by AC"
    assert reading.throttle.now == ("thermal status moderate",)
    assert (values["throttled"], reading.governor.text, reading.limit_mhz.value) == (1.0, "sched_pixel", 2802.0)
    snapshot = phone_snapshot(reading, 1.0)
    assert (snapshot.temperature_c.value, snapshot.clock_mhz.value) == (47.0, 2802.0)


def test_a_phone_that_tells_nothing_gives_null_with_the_reason() -> None:
    text = "edgekit:part battery\nsh: dumpsys: not found\nedgekit:part thermal\nsh: dumpsys: not found\n"
    reading = parse_reading([*text.splitlines(), *(f"edgekit:part {p}" for p in ("clocks", "zones", "memory"))], "p")
    assert all(item.value is None and item.reason for item in reading.measured)
    assert "not found" in str(reading.battery.reason)
    assert "not found" in str(reading.throttle.reason)
    with pytest.raises(TransportError, match="describes its sensors"):
        parse_reading(text.splitlines(), "p")


@pytest.mark.parametrize("level", range(7))
def test_every_thermal_status(level: int) -> None:
    now = thermal_status([f"Thermal Status: {level}"]).now
    assert now == (() if level == 0 else (f"thermal status {STATUS[level]}",))
    assert thermal_status(["Thermal Status: 7"]).now is None


def facts(machine: str) -> Facts:
    plain = dict.fromkeys(Facts.fields_, "")
    return Facts(**{**plain, "machine": machine})  # type: ignore[arg-type]


def elf(machine: int) -> bytes:
    return b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00" + machine.to_bytes(2, "little") + bytes(44)


def test_the_runner_is_found_beside_the_sdk_and_refused_for_another_processor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in ("ANDROID_HOME", "ANDROID_SDK_ROOT"):
        monkeypatch.delenv(key, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_runner(None) is None
    sdk = tmp_path / "sdk"
    (sdk / "platform-tools").mkdir(parents=True)
    program = sdk / "platform-tools" / "android_aarch64_benchmark_model"
    program.write_bytes(elf(183))
    monkeypatch.setenv("ANDROID_HOME", str(sdk))
    assert usable_runner(None, "phone", facts("aarch64")) == program
    assert usable_runner(None, "phone", facts("x86_64")) is None
    with pytest.raises(TargetError, match="another processor"):
        usable_runner(program, "phone", facts("x86_64"))
    with pytest.raises(InputError, match="there is no file"):
        usable_runner(tmp_path / "none", "phone", facts("aarch64"))
    monkeypatch.delenv("ANDROID_HOME")
    on_path = tmp_path / "benchmark_model"
    on_path.write_bytes(elf(62))
    on_path.chmod(0o755)
    assert find_runner(None) == on_path
    assert usable_runner(None, "phone", facts("aarch64")) is None


def spec(datatype: str, *shape: int) -> TensorSpec:
    return TensorSpec(name="t", datatype=datatype, shape=shape, quantization=None)  # type: ignore[arg-type]


def test_outputs_come_back_as_one_file_in_order() -> None:
    assert output_shapes([spec("FP32", 1, 3), spec("INT8", 4)], 16) == [(1, 3), (4,)]
    assert output_shapes([spec("FP32", -1, 3), spec("INT8", -1)], 5 * 13) == [(5, 3), (5,)]
    for size in (15, 17, 0):
        with pytest.raises(GraphRefused, match="bytes of outputs"):
            output_shapes([spec("FP32", 1, 3), spec("INT8", 4)], size)
    assert layer_names(["serving_default_x", "y"]) == ["serving_default_x", "y"]
    assert layer_names(["x:0", "y"]) == layer_names(["a,b", "y"]) == ["input0", "input1"]
