"""A bundle profiled through its own predict: cold start, memory, operators, variants; a cut link loses nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import pytest

from edgekit.errors import BackendError, InputError
from edgekit.predictor import load
from edgekit.profiling import agent
from edgekit.profiling.cells import call_for
from edgekit.profiling.children import child_environment
from edgekit.profiling.coldstart import PARTS, cold_starts, one_start
from edgekit.profiling.journal import Journal, read_journal
from edgekit.profiling.measure import Run, measure, rules_for
from edgekit.profiling.memory import memory_phase, parse_status, phase_between, read_status
from edgekit.profiling.operator_runs import operator_tables
from edgekit.profiling.options import dump_options, options_for, parse_options, plans_of, rules_of
from edgekit.profiling.profile import profile
from edgekit.profiling.report import dump_report, load_report
from edgekit.profiling.resume import is_finished, resume, with_runs
from edgekit.profiling.text import render
from edgekit.profiling.workload import audio_seconds, golden_workload, keywords, user_workload

QUICK = {"min_runs": 60, "min_s": 0.5, "cold_starts": 1}


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> str:
    """tridigit, int8 as TFLite and float as ONNX, packaged for this machine by the command line."""
    folder = tmp_path_factory.mktemp("profile")
    script = "from edgekit.cli import main; main()"
    for variant in ("fp32", "int8"):
        output = str(folder / f"{variant}.edgekit")
        command = (sys.executable, "-c", script, "package", "tridigit", "--variant", variant, "-o", output)
        subprocess.run(command, check=True, capture_output=True, timeout=120)
    return str(folder / "fp32.edgekit")


@pytest.fixture(scope="session")
def int8(bundle: str) -> str:
    return str(Path(bundle).with_name("int8.edgekit"))


def test_a_profile_has_every_part(bundle: str) -> None:
    said: list[str] = []
    report = profile(options_for(bundle, **QUICK, callers=(2,), batches=(4,)), progress=said.append)
    assert [cell.name for cell in report.cells] == ["predict", "callers=2", "batch=4"]
    assert {stage.name for stage in report.cells[0].stages} >= {"decode", "preprocess", "graph:image", "postprocess"}
    assert report.cells[0].latency_ms.n >= 60
    assert report.cells[0].samples.warmup.runs >= 5
    assert [cold.processes for cold in report.cold_start] == [1]
    assert report.cells[0].settings == {"threads": "the runtime's choice"}
    assert report.cells[1].settings == {"threads": "the runtime's choice", "callers": "2"}
    assert [phase.phase for phase in report.memory] == ["before loading", "load", "first predict", "measuring"]
    assert all(phase.rss_bytes and phase.rss_bytes > 10 << 20 for phase in report.memory)
    assert "image" in {table.graph for table in report.operators if not table.absent}
    assert report.sensors is not None
    assert report.runtime_versions["onnxruntime"]
    assert len(report.subject.bundle_digest) == 64
    assert load_report(dump_report(report), "x") == report
    assert any("operators" in line for line in said)
    assert "graph:image" in render(report)


def test_the_stages_of_a_real_predict_add_up(bundle: str) -> None:
    report = profile(options_for(bundle, min_runs=200, min_s=0.5, cold_starts=0, operators=False))
    assert report.cells[0].adds_up is True


def test_variants_and_threads_are_measured_in_turn(bundle: str, int8: str) -> None:
    options = options_for(
        bundle, variant="fp32", variants={"int8": int8}, threads=(1,), min_runs=20, min_s=0.1, cold_starts=0
    )
    report = profile(options)
    names = [cell.name for cell in report.cells]
    assert names == ["fp32 threads=1", "int8 threads=1"]
    assert report.cells[1].settings == {"variant": "int8", "threads": "1"}
    assert [subject.variant for subject in (report.subject, *report.others)] == ["fp32", "int8"]
    assert report.subject.bundle_digest != report.others[0].bundle_digest
    image = [table for table in report.operators if table.graph == "image"]
    assert [table.variant for table in image] == ["fp32", "int8"]
    assert image[0].slow_because == ()
    assert image[1].slow_because  # conversions at the edges, by this very bundle's own operators
    assert load_report(dump_report(report), "x") == report
    first, last = report.cells[0].samples, report.cells[-1].samples
    assert first.began_s + first.start_s[-1] > last.began_s  # the first was not over when the last began


def test_texts_alone_are_encoded_in_each_run(bundle: str) -> None:
    given = user_workload(texts=["zero"])
    report = profile(options_for(bundle, workload=given, **{**QUICK, "cold_starts": 0}, operators=False))
    graph = next(stage for stage in report.cells[0].stages if stage.name == "graph:text")
    assert graph.ran == report.cells[0].latency_ms.n
    assert any("encoded anew" in note for note in report.notes)


def test_the_figures_are_those_of_a_bare_loop(bundle: str) -> None:
    """Paired with a plain loop of timed predicts in the same rounds: the medians differ by at most 5 %."""
    rules = rules_for().replace(warmup_min_runs=0, warmup_min_s=0.0, warmup_limit_s=0.0, min_runs=150, min_s=0.0)
    with load(bundle) as predictor:
        workload = golden_workload(predictor.manifest)
        given = keywords(workload.items[0], predictor.read)
        call = call_for(predictor, workload)

        def bare() -> float:
            times = []
            for _ in range(150):
                before = time.perf_counter()
                predictor.predict(**given)
                times.append((time.perf_counter() - before) * 1e3)
            return median(times)

        bare()

        def ratio() -> float:
            return median(median(measure(call, rules).total_ms) / bare() for _ in range(9))

        assert any(0.95 < ratio() < 1.05 for _ in range(3))


def test_a_cold_start_is_split_and_whole(bundle: str) -> None:
    with load(bundle) as predictor:
        item = golden_workload(predictor.manifest).items[0]
    found = cold_starts({"bundle": bundle, "threads": None, "item": item}, processes=2)
    assert tuple(found.parts_ms) == PARTS
    for i in range(2):
        parts = sum(values[i] for values in found.parts_ms.values())
        assert all(values[i] > 0 for values in found.parts_ms.values())
        assert parts == pytest.approx(found.total_ms[i], rel=0.05)
    assert all(peak and peak > 20 << 20 for peak in found.peak_bytes)


def test_a_cold_start_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="status"):
        cold_starts({"bundle": str(tmp_path / "none"), "threads": None, "item": {}}, processes=1)
    with pytest.raises(BackendError, match="within 1 s"):
        one_start((sys.executable, "-c", "import time; time.sleep(60)"), 1.0)
    with pytest.raises(BackendError, match="could not begin"):
        one_start((str(tmp_path / "no-such-python"),), 1.0)
    with pytest.raises(BackendError, match="clock marks"):
        one_start((sys.executable, "-c", "print('hello')"), 30.0)
    with pytest.raises(InputError):
        cold_starts({}, processes=0)


def test_memory_is_read_and_a_peak_is_that_of_its_phase() -> None:
    def take() -> int:
        return len(bytearray(64 << 20))

    size, phase = memory_phase("take", take)
    assert size == 64 << 20
    assert phase.peak_bytes is not None
    assert phase.rss_bytes is not None
    assert phase.peak_bytes - phase.rss_bytes > 50 << 20  # it was freed again
    _, after = memory_phase("nothing", lambda: None)
    if phase_between("x", {}, read_status(), was_reset=True).peak_bytes != phase.peak_bytes:
        assert (after.peak_bytes or 0) < phase.peak_bytes


def test_a_peak_that_cannot_be_told_apart_is_null_with_the_reason() -> None:
    status = parse_status("Name:\tx\nVmHWM:\t   2048 kB\nVmRSS:\t    1024 kB\nRssAnon:\t 512 kB\nVmSwap:\t 0 kB\n")
    assert status == {"VmHWM": 2 << 20, "VmRSS": 1 << 20, "RssAnon": 512 << 10, "VmSwap": 0}
    same = phase_between("a", status, status, was_reset=False)
    assert same.peak_bytes is None
    assert "clear_refs" in (same.reason or "")
    assert phase_between("a", {}, {}, was_reset=False).rss_bytes is None
    assert phase_between("a", {**status, "VmHWM": 1}, status, was_reset=False).peak_bytes == 2 << 20


def test_operators_of_both_runtimes_come_from_predicts_own_inputs(bundle: str, int8: str) -> None:
    with load(bundle) as predictor:
        item = golden_workload(predictor.manifest).items[0]
    for path, runtime in ((bundle, "onnxruntime"), (int8, "litert")):
        (found,) = operator_tables(path, [("image", runtime)], item, threads=1, runs=10)
        if runtime == "litert" and found.absent and "not checked" in found.absent:
            continue
        assert found.absent is None
        assert found.runs == 10
        assert sum(operator.share for operator in found.operators) == pytest.approx(1.0)
        assert found.inflation is not None
        assert found.placement
        assert not any("zeros" in note for note in found.notes)
    (none,) = operator_tables(bundle, [("audio", "onnxruntime")], item, threads=1, runs=5)
    assert "do not reach it" in (none.absent or "")


def test_options_survive_their_document_and_refuse_others(bundle: str) -> None:
    options = options_for(bundle, sustained_s=600.0, threads=(1, 2))
    assert parse_options(json.dumps(dump_options(options)).encode()) == options
    assert rules_of(options).min_s == 600.0
    assert [plan.name for plan in plans_of(options.replace(sustained_s=None))] == ["threads=1", "threads=2"]
    with pytest.raises(InputError, match="one cell without a break"):
        plans_of(options)
    with pytest.raises(InputError, match="no option 'thread'"):
        options_for(bundle, thread=1)
    with pytest.raises(InputError, match="key"):
        parse_options(b"{}")


def test_the_length_of_a_sound(tmp_path: Path, shared: Path) -> None:
    import wave

    path = tmp_path / "s.wav"
    with wave.open(str(path), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(2 * 12000))
    assert audio_seconds({"audio": {"path": str(path)}}, lambda _: b"", 16000.0).value == 1.5
    assert audio_seconds({"image": {"path": "x"}}, lambda _: b"", 16000.0).value is None
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    broken = audio_seconds({"audio": {"path": str(tmp_path / "broken.wav")}}, lambda _: b"", 16000.0)
    assert broken.value is None
    assert broken.reason


def test_a_workload_without_inputs_is_refused() -> None:
    with pytest.raises(InputError):
        user_workload()
    mixed = user_workload(images=["a.jpg", "b.jpg"], texts=["x", "y", "z"], candidates=True)
    assert len(mixed.items) == 2
    assert mixed.items[1] == {"image": {"path": "b.jpg"}, "text": {"texts": ["x", "y", "z"]}}


def start(folder: Path, bundle: str, **changes: object) -> int:
    options = options_for(bundle, **{**QUICK, "cold_starts": 0, "operators": False, **changes})
    command = (sys.executable, "-m", "edgekit.profiling.agent", "start", str(folder), json.dumps(dump_options(options)))
    return int(subprocess.run(command, capture_output=True, timeout=60, check=True).stdout)


def wait_for(folder: Path, kind: str) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        path = folder / agent.JOURNAL
        if path.is_file() and any(entry["kind"] == kind for entry in read_journal(path)):
            return
        time.sleep(0.05)
    pytest.fail(f"the agent wrote no {kind}: {(folder / agent.PROGRESS).read_text()}")


def test_the_agent_outlives_its_follower_and_nothing_is_lost(bundle: str, tmp_path: Path) -> None:
    """The link is cut (the follower is killed) while it measures; the profile ends, and the report is whole."""
    folder = tmp_path / "run"
    start(folder, bundle, min_s=3.0)
    command = (sys.executable, "-m", "edgekit.profiling.agent", "follow", str(folder))
    follower = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
    wait_for(folder, "runs")
    os.killpg(follower.pid, signal.SIGKILL)
    follower.wait()
    assert follower.stdout is not None
    follower.stdout.close()
    partial = resume(folder / agent.JOURNAL)
    assert not partial.complete
    assert partial.cells[0].latency_ms.n > 0
    assert agent.follow(folder) == 0
    report = load_report(agent.fetch(folder), "fetched")
    assert report.complete
    assert report.cells[0].latency_ms.n > partial.cells[0].latency_ms.n
    # Not one of the runs that were on the disk when the link was cut is missing or changed.
    before = partial.cells[0].samples.total_ms
    assert report.cells[0].samples.total_ms[: len(before)] == before
    assert is_finished(read_journal(folder / agent.JOURNAL))


def test_an_agent_that_is_killed_leaves_what_it_measured(bundle: str, tmp_path: Path) -> None:
    """A reboot, seen from outside: the process is gone without an outcome."""
    folder = tmp_path / "run"
    pid = start(folder, bundle, min_s=60.0)
    wait_for(folder, "runs")
    os.killpg(pid, signal.SIGKILL)
    assert agent.follow(folder) == 7
    report = load_report(agent.fetch(folder), "fetched")
    assert not report.complete
    assert report.cells[0].latency_ms.n >= 1
    assert report.cells[0].cpu_ms_per_call is None
    assert any("cut short" in reason for reason in report.unstable_because)
    assert report.absent["operators"]


def test_a_journal_torn_at_any_byte_is_read_up_to_there(bundle: str, tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        profile(options_for(bundle, min_runs=20, min_s=0.1, cold_starts=0, operators=False), journal=journal)
    whole = path.read_bytes()
    entries = read_journal(path)
    torn = tmp_path / "torn.jsonl"
    for length in range(0, len(whole), max(1, len(whole) // 300)):
        torn.write_bytes(whole[:length])
        read = read_journal(torn)
        assert read == entries[: len(read)]
        assert len(read) >= whole[:length].count(b"\n")
    torn.write_bytes(whole[: len(whole) // 2] + bytes(100))  # a power cut may leave zeros
    assert read_journal(torn)


def test_a_journal_and_the_report_itself_agree(bundle: str, tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        options = options_for(bundle, min_runs=50, min_s=0.1, cold_starts=1, callers=(2,))
        report = profile(options, journal=journal)
    again = resume(path)
    assert again.complete
    assert again.cold_start == report.cold_start
    assert again.memory == report.memory
    assert again.operators == report.operators
    assert again.notes == report.notes
    assert [cell.name for cell in again.cells] == [cell.name for cell in report.cells]
    for mine, theirs in zip(again.cells, report.cells):
        assert mine.samples.total_ms == theirs.samples.total_ms
        assert mine.samples.stages_ms == theirs.samples.stages_ms
        assert mine.samples.warmup == theirs.samples.warmup
        assert mine.throughput_per_s == theirs.throughput_per_s
        assert mine.samples.start_s == pytest.approx(theirs.samples.start_s, abs=1e-6)


def test_a_journal_of_runs_that_were_thinned_out_gives_the_same_sample(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:

        def on_run(run: Run) -> None:
            journal.run("predict", run)
            if run.index % 100 == 0:
                journal.flush()

        rules = rules_for().replace(min_runs=3000, min_s=0.0, warmup_min_s=0.0)
        samples = measure(lambda: {"graph": 1.0, "generate.tokens": 2.0}, rules, on_run=on_run, kept_runs=50)
    chunks = [entry for entry in read_journal(path) if entry["kind"] == "runs"]
    bare = samples.replace(start_s=(), total_ms=(), stages_ms={}, details={}, kept_every=1)
    again = with_runs(bare, chunks)
    assert samples.kept_every == again.kept_every == 32
    assert again.total_ms == samples.total_ms
    assert again.stages_ms == samples.stages_ms
    assert again.details == samples.details
    assert again.start_s == pytest.approx(samples.start_s, abs=1e-6)
    assert again.runs == samples.runs == 3000


@pytest.mark.parametrize("data", [b'{"kind": 1}\n{"kind": "end"}\n{}\n', b"x\ny\nz\n", b"[]\n[]\n[]\n"])
def test_a_journal_that_is_none_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "j").write_bytes(data)
    with pytest.raises(InputError):
        read_journal(tmp_path / "j")
    with pytest.raises(InputError):
        resume(tmp_path / "absent")
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(InputError, match="before the profile began"):
        resume(tmp_path / "empty")
    (tmp_path / "odd").write_bytes(b'{"kind": "begin"}\n')
    with pytest.raises(InputError):
        resume(tmp_path / "odd")


def test_a_full_disk_ends_the_journal_and_not_the_measuring() -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full")
    with Journal(full) as journal:
        journal.note("begin", x=1)
        journal.run("predict", Run(index=0, every=1, at_s=1.0, total_ms=1.0, parts={}))
        journal.flush()
        assert "No space left" in (journal.problem or "")


def test_a_folder_is_used_once_and_wrong_calls_say_so(bundle: str, tmp_path: Path, capsys: object) -> None:
    (tmp_path / agent.JOURNAL).write_text("")
    with pytest.raises(InputError, match="already"):
        agent.start(tmp_path, json.dumps(dump_options(options_for(bundle))).encode())
    assert agent.main(["fetch", str(tmp_path / "absent")]) == 4
    assert agent.main(["follow", str(tmp_path / "absent")]) == 4
    assert agent.main(["start", str(tmp_path / "new"), "{}"]) == 4
    assert agent.main([]) == 2
    assert agent.main(["fetch"]) == 2


def test_an_agent_that_fails_tells_its_exit_code(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    start(folder, str(tmp_path / "no.edgekit"))
    assert agent.follow(folder) == 3
    assert json.loads((folder / agent.OUTCOME).read_text())["exit_code"] == 3


def test_a_process_of_the_same_number_is_not_the_agent(tmp_path: Path) -> None:
    (tmp_path / agent.PROCESS).write_text(json.dumps({"pid": os.getpid(), "began": "another boot 1"}))
    assert not agent.is_alive(tmp_path)
    assert not agent.is_alive(tmp_path / "absent")


def test_children_find_what_this_process_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A layer is on sys.path only; the interpreter's own folders are not passed on."""
    layer = tmp_path / "layer"
    (layer / "edgekit_layer_probe").mkdir(parents=True)
    (layer / "edgekit_layer_probe" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(layer))
    environment = child_environment()
    command = (sys.executable, "-c", "import edgekit_layer_probe, edgekit.profiling.coldstart_child")
    subprocess.run(command, env=environment, check=True, timeout=60, cwd=tmp_path)
    assert str(Path(sys.prefix) / "lib") not in environment["PYTHONPATH"]
