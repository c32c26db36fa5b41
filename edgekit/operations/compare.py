"""`compare`: models side by side on the same data: size, work, latency, memory, accuracy, noise, worst samples."""

from __future__ import annotations

import datetime
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from edgekit import results
from edgekit.arrays import Array
from edgekit.bundle import open_bundle
from edgekit.compression.agreement import agreement, correctness, measure_name
from edgekit.compression.facts import GraphFacts
from edgekit.compression.intervals import MIN_SAMPLES, drop_interval, score_interval
from edgekit.compression.reading import read_network
from edgekit.compression.signal import Noise, Powers, broken_layer
from edgekit.compression.tapping import compare_layers
from edgekit.errors import EdgekitError, GateFailed, GateInconclusive, InputError
from edgekit.manifest import GraphSpec, Manifest
from edgekit.operations.compare_data import Sample, golden_samples, read_samples
from edgekit.operations.compare_inputs import sweep_inputs
from edgekit.operations.compare_latency import measure_latency, peak_of
from edgekit.operations.compare_page import compared_page
from edgekit.operations.compare_records import SCHEMA, Candidate, Compared, InputRow, Stage, Worst
from edgekit.operations.compare_text import compared_text as compared_text
from edgekit.operations.compare_there import Measured, check_all_fit, device_kind, machine_name, measure_there
from edgekit.operations.inspect import cpu_features, inspect_bundle
from edgekit.operations.output import check_outputs as check_outputs
from edgekit.operations.output import write_output
from edgekit.operations.package import Note, choose_target, is_bundle, package
from edgekit.predictor import Predictor, load
from edgekit.profiling.environment import this_environment
from edgekit.profiling.workload import Workload, keywords
from edgekit.specs.quantize import quantize
from edgekit.specs.tensor import NUMPY_NAMES
from edgekit.targets import Target

LAYER_SAMPLES = 8
WORST_SHOWN = 5
LATENCY_SAMPLES = 8


class Source(NamedTuple):
    """A model to compare: how it is called, what was given, and its bundle."""

    name: str
    given: str
    bundle: Path


class Answer(NamedTuple):
    """One model's result for one sample."""

    result: results.Result
    score: float


def compare(
    sources: Sequence[str],
    *,
    data: Path | None,
    limit: int | None,
    runs: int,
    seconds: float,
    latency: bool,
    qualities: Sequence[int],
    scales: Sequence[int],
    note: Note,
    device: str | None = None,
    target: str | None = None,
    wheels: Sequence[Path] = (),
    offline: Path | None = None,
) -> Compared:
    """Compare bundles or recipes (`recipe@variant`) on data, or on the first one's golden samples.

    runs, seconds: at least so many, so long, for each model's latency. qualities, scales: of compressed inputs to
    try on the first one. device: where latency and memory are measured, null for this machine; scores are this
    machine's. target: the kind to package for, null for the device's or this machine's. wheels, offline: for the layer
    of a device, as `deploy` takes them. Raises InputError, BundleError, GraphRefused, TargetError; of a device what
    deploying and profiling raise.
    """
    if len(sources) < 1 or (len(sources) < 2 and not (qualities or scales)):
        raise InputError(f"compare needs at least two models, got {len(sources)}", hint="edgekit compare A B")
    if device is None and (wheels or offline):
        raise InputError("--wheel and --offline are for the layer of a device", hint="add --on DEVICE")
    if device is not None and not latency:
        raise InputError("a device measures latency and memory", hint="leave out --no-latency, or --on")
    kind = choose_target(target, lambda _: None) if device is None else device_kind(device, target, note)
    with tempfile.TemporaryDirectory(prefix="edgekit-compare-") as scratch, ExitStack() as stack:
        made = find_sources(sources, Path(scratch), note, kind)
        if device is not None:
            check_all_fit({s.name: s.bundle for s in made}, device, kind)
        predictors = {s.name: stack.enter_context(load(s.bundle)) for s in made}
        first = predictors[made[0].name]
        samples = golden_samples(first.manifest) if data is None else read_samples(data, first.manifest, limit)
        samples = _as_files(samples, first, Path(scratch))
        note(f"{len(samples)} samples, {len(made)} models")
        run = _Run(made, predictors, samples)
        run.predict(note)
        measured = NOT_MEASURED
        if latency:
            bundles, workload = {s.name: s.bundle for s in made}, _workload(samples)
            if device is None:
                measured = _measured_here(bundles, workload, runs, seconds, note)
            else:
                supplies: dict[str, Any] = {"wheels": wheels, "offline": offline}
                measured = measure_there(bundles, workload, runs, seconds, device, kind, note=note, **supplies)
        candidates = tuple(run.candidate(s, measured, note) for s in made)
        rows = sweep_inputs(first, samples, qualities, scales, note) if qualities or scales else ()
        return Compared(
            schema=SCHEMA,
            created_utc=datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
            data="golden samples" if data is None else str(data),
            measure=run.measure,
            labelled=run.labelled,
            samples=len(samples),
            device=device,
            board=measured.board,
            environment=measured.environment or this_environment().id,
            candidates=candidates,
            inputs=rows,
            notes=tuple(_notes(run, device, rows, latency)),
        )


def find_sources(sources: Sequence[str], scratch: Path, note: Note, target: Target) -> list[Source]:
    """The bundle of each source, packaged for the target where it is none."""
    found: list[Source] = []
    for i, given in enumerate(sources):
        path = Path(given)
        name, bundle = path.stem, path
        if not is_bundle(path):
            recipe, _, variant = given.partition("@")
            name, bundle = Path(recipe).name + (f"@{variant}" if variant else ""), scratch / f"{i}.edgekit"
            package(
                recipe, target, variant or None, [], bundle, answers={}, progress=lambda *_: None, note=lambda _: None
            )
            note(f"packaged {given} for {target.name}")
        taken = {s.name for s in found}
        found.append(Source(name if name not in taken else f"{name}#{i + 1}", given, bundle))
    return found


def _as_files(samples: list[Sample], first: Predictor, scratch: Path) -> list[Sample]:
    """Golden files of the first bundle as files that every model reads."""
    made = []
    for i, sample in enumerate(samples):
        item = dict(sample.item)
        for keyword, source in item.items():
            name = source.get("file")
            if isinstance(name, str) and not name.endswith(".npy"):
                path = scratch / f"golden-{i}-{keyword}{Path(name).suffix}"
                path.write_bytes(first.read(name))
                item[keyword] = {"path": str(path)}
        made.append(sample._replace(item=item))
    return made


NOT_MEASURED = Measured({}, {}, "", "")


def _workload(samples: Sequence[Sample]) -> Workload:
    chosen = samples[:: max(1, len(samples) // LATENCY_SAMPLES)][:LATENCY_SAMPLES]
    kinds = {tuple(sorted(s.item)) for s in chosen}
    described = f"{len(chosen)} of the samples ({'; '.join(', '.join(k) for k in sorted(kinds))})"
    return Workload(origin="user", items=tuple(s.item for s in chosen), described=described)


def _measured_here(bundles: Mapping[str, Path], workload: Workload, runs: int, seconds: float, note: Note) -> Measured:
    timed = measure_latency({name: str(path) for name, path in bundles.items()}, workload, runs, seconds, note)
    peaks = {name: peak_of(str(path), workload.items[0]) for name, path in bundles.items()}
    here = this_environment()
    return Measured(timed, peaks, machine_name(here), here.id)


class _Run:
    """All models over all samples; only scores, the reference's results and sums of noise are kept."""

    def __init__(self, made: list[Source], predictors: dict[str, Predictor], samples: list[Sample]) -> None:
        self.made, self.predictors, self.samples = made, predictors, samples
        self.labelled = samples[0].label is not None
        self.measure = ""
        self.answers: dict[str, list[Answer]] = {s.name: [] for s in made}
        self.powers: dict[str, Powers] = {s.name: Powers() for s in made}
        self.traces: dict[str, list[dict[str, Array]]] = {s.name: [] for s in made}

    def predict(self, note: Note) -> None:
        """Every sample through every model, the first model first."""
        told = max(1, len(self.samples) // 4)
        for at, sample in enumerate(self.samples):
            if at and at % told == 0:
                note(f"{at} of {len(self.samples)} samples")
            reference: results.Result | None = None
            seen: dict[str, Array] = {}
            for source in self.made:
                predictor = self.predictors[source.name]
                try:
                    result, values = predictor.trace(**keywords(sample.item, self.predictors[self.made[0].name].read))
                except EdgekitError as error:
                    raise type(error)(f"{source.name}, {sample.name}: {error.message}", hint=error.hint) from None
                if reference is None:
                    reference, seen = result, dict(values)
                    self.measure = self.measure or measure_name(result, labelled=self.labelled)
                score = correctness(result, sample.label) if sample.label is not None else agreement(reference, result)
                self.answers[source.name].append(Answer(result, score))
                for name, value in values.items():
                    if name in seen and value.dtype.kind == "f":
                        self.powers[source.name].add(name, seen[name], value)
                if len(self.traces[source.name]) < LAYER_SAMPLES:
                    self.traces[source.name].append(dict(values))

    def candidate(self, source: Source, measured: Measured, note: Note) -> Candidate:
        """Everything about one model."""
        manifest = self.predictors[source.name].manifest
        shapes = _traced_shapes(manifest, self.traces[source.name])
        graphs = inspect_bundle(source.bundle, None, cpu_features(), shapes).graphs
        layers = self._layers(source, note)
        own = [a.score for a in self.answers[source.name]]
        first = [a.score for a in self.answers[self.made[0].name]]
        broken = [
            f"{graph}: {bad.layer} ({bad.op}, {_db(bad.snr_db)} against {_db(bad.snr_db, bad.drop_db)} before it)"
            for graph, noises in layers.items()
            if (bad := broken_layer(noises)) is not None
        ]
        powers = self.powers[source.name]
        return Candidate(
            name=source.name,
            source=source.given,
            digest=self.predictors[source.name].digest,
            target=manifest.target,
            size_bytes=source.bundle.stat().st_size if source.bundle.is_file() else _files_bytes(manifest),
            parameters=sum(g.parameters for g in graphs.values()),
            multiply_adds=_work(graphs),
            kinds=tuple(dict.fromkeys(k for g in graphs.values() for k in g.kinds() if k not in _USUAL)),
            score=score_interval(own),
            drop=drop_interval(first, own),
            latency=measured.latency.get(source.name),
            peak_bytes=measured.peak_bytes.get(source.name),
            stages=tuple(Stage(value=n, snr_db=powers.snr_db(n), elements=powers.elements(n)) for n in powers.names()),
            layers={graph: tuple(noises) for graph, noises in layers.items()},
            broken=tuple(broken),
            doubts=tuple(f"{layer.name}: {d}" for g in graphs.values() for layer in g.layers for d in layer.doubts),
            worst=self._worst(source),
        )

    def _layers(self, source: Source, note: Note) -> dict[str, list[Noise]]:
        """The noise of each layer in the graphs that both models have, on the first samples."""
        reference = self.made[0]
        if source is reference:
            return {}
        found: dict[str, list[Noise]] = {}
        with open_bundle(reference.bundle) as a, open_bundle(source.bundle) as b:
            others = {graph.name: graph for graph in b.manifest.graphs}
            for graph in a.manifest.graphs:
                other = others.get(graph.name)
                if other is None or other.runtime != graph.runtime or graph.state or other.state:
                    continue
                feeds = []
                for one, two in zip(self.traces[reference.name], self.traces[source.name]):
                    pair = graph_feed(graph, one), graph_feed(other, two)
                    if pair[0] is not None and pair[1] is not None:
                        feeds.append(pair)
                if not feeds:
                    continue
                # A path by descriptor has no place for outside weights beside it; the folder has.
                networks = [read_network(str(x.path / g.file)) for x, g in ((a, graph), (b, other))]
                try:
                    found[graph.name] = compare_layers(networks[0], networks[1], feeds)  # type: ignore[arg-type]
                except EdgekitError as error:
                    note(f"{source.name}, {graph.name}: no noise by layer: {error.message}")
        return {name: noises for name, noises in found.items() if noises}

    def _worst(self, source: Source) -> tuple[Worst, ...]:
        """The lowest scores, those first where the reference does better."""
        first, own = self.answers[self.made[0].name], self.answers[source.name]
        order = sorted(range(len(own)), key=lambda i: (own[i].score - first[i].score, own[i].score))
        best = 1.0
        bad = [i for i in order if own[i].score < best][:WORST_SHOWN]
        return tuple(
            Worst(
                sample=self.samples[i].name,
                score=own[i].score,
                label=self.samples[i].label,
                reference=_said(first[i].result),
                answer=_said(own[i].result),
            )
            for i in bad
        )


_USUAL = ("folded", "fused-activation")


def _db(value: float | None, more: float = 0.0) -> str:
    return "no noise" if value is None else f"{value + more:.0f} dB"


def _said(result: results.Result) -> str:
    """The first line of an answer, short."""
    label = getattr(result, "label", None)
    if isinstance(label, str):
        return f"{label} {float(getattr(result, 'score', 0.0)):.3f}"
    line = (str(result).splitlines() or [""])[0]
    return line if len(line) <= 80 else line[:77] + "..."


def _work(graphs: Mapping[str, GraphFacts]) -> int | None:
    return None if any(g.not_counted for g in graphs.values()) else sum(g.multiply_adds for g in graphs.values())


def _files_bytes(manifest: Manifest) -> int:
    return sum(fact.size for fact in manifest.files.values())


def _traced_shapes(manifest: Manifest, traces: Sequence[Mapping[str, Array]]) -> dict[str, tuple[int, ...]]:
    """The shape that each graph input had for the first sample in which it had one."""
    found: dict[str, tuple[int, ...]] = {}
    for graph in manifest.graphs:
        for trace in traces:
            feed = graph_feed(graph, trace)
            if feed is not None:
                found.update({name: array.shape for name, array in feed.items() if name not in found})
                break
    return found


def graph_feed(graph: GraphSpec, values: Mapping[str, Array]) -> dict[str, Array] | None:
    """What a graph was given in a traced call, its first row where it ran row by row; None where it did not run."""
    feed = {c.name: np.array(c.data, NUMPY_NAMES[c.datatype]).reshape(c.shape) for c in graph.constants}
    for port in graph.inputs:
        value = values.get(port.value)
        if value is None:
            return None
        if value.ndim > len(port.shape):
            value = value[0]
        elif port.shape[:1] == (1,) and value.ndim and len(value) > 1:
            value = value[:1]
        dtype = np.dtype(NUMPY_NAMES[port.datatype])
        if value.dtype != dtype:
            value = quantize(value, port.quantization, dtype) if port.quantization else value.astype(dtype)
        feed[port.name] = value
    return feed


def _notes(run: _Run, device: str | None, inputs: Sequence[InputRow], latency: bool) -> list[str]:
    notes = []
    if device is not None:
        notes.append(f"each model answered its golden samples on {device}; scores over all samples are this machine's")
        if inputs:
            notes.append("decode times of compressed pictures are this machine's")
    if not run.labelled:
        notes.append("no labels: the score is agreement with the first model, which may be wrong itself")
    if len(run.samples) < MIN_SAMPLES:
        notes.append(f"{len(run.samples)} samples show a broken model, not a difference: give more with --data")
    if not latency:
        notes.append("latency and memory were not measured")
    return notes


def gate(found: Compared, max_drop: float) -> None:
    """Raise GateFailed where a model surely lost more than `max_drop`, GateInconclusive where it may have."""
    unclear = []
    for one in found.candidates[1:]:
        told = f"{one.name}: {found.measure} {one.drop.value:+.2%} lost ({one.drop.low:+.2%} to {one.drop.high:+.2%})"
        where = f"; broken at {one.broken[0]}" if one.broken else ""
        if one.drop.samples >= MIN_SAMPLES and one.drop.low > max_drop:
            raise GateFailed(f"{told}, more than {max_drop:.2%}{where}")
        if one.drop.samples < MIN_SAMPLES or one.drop.high > max_drop:
            unclear.append(f"{told}: it may be more or less than {max_drop:.2%}{where}")
    if unclear:
        count = found.samples
        few = f"{count} samples; " if count < MIN_SAMPLES else ""
        raise GateInconclusive(f"{few}{unclear[0]}", hint="compare on more samples")


def write_page(found: Compared, path: Path | None) -> None:
    """The comparison as one HTML file. Raises InputError where it cannot be written."""
    if path is not None:
        write_output(path, compared_page(found).encode())
