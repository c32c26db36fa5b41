"""A loaded bundle that answers predict: load -> predict -> close."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from os import PathLike
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from edgekit import clock, flow, results
from edgekit.arrays import Array
from edgekit.bundle import BundleDirectory, open_bundle
from edgekit.errors import ClosedError, InputError
from edgekit.inputs import Prepare, Prepared, preparer
from edgekit.manifest import GraphSpec, Manifest
from edgekit.postprocess import Fields, Finish, finisher
from edgekit.runtimes.checks import check_ports
from edgekit.runtimes.graph import Graph, Settings
from edgekit.runtimes.loading import confirmed, load_graph, load_with_fallback, load_workers
from edgekit.specs.post import Embeddings, Generated, Similarity
from edgekit.stamps import graph_cache

if TYPE_CHECKING:
    from edgekit.batch import RunRows
    from edgekit.generation.writer import Writer
    from edgekit.stream import Stream

Answer = Callable[[Mapping[str, Any], clock.Lap, dict[str, Array]], Fields]
"""From what was given to the result's fields; the values of the flow are added to the last argument."""
OpenGraph = Callable[[GraphSpec, str], Graph]
"""A graph of the manifest, its file verified at this path, loaded somewhere else than in this process."""

THREADS_LIMIT = 1024
WORKERS_LIMIT = 64
READ_LIMIT_BYTES = 64 << 20
"""Of a file that is read into memory (tokenizer, labels, golden sample); graphs never are."""


def load(
    path: str | PathLike[str],
    *,
    threads: int | None = None,
    verify: str = "stamp",
    providers: Sequence[str] = (),
    text_memory: int = 1024,
    workers: int = 1,
) -> Predictor:
    """The predictor of a bundle: an `.edgekit` file, or the directory of an unpacked one.

    threads: per graph, None takes what the bundle's target says, 0 the runtime's choice. verify: `stamp` trusts
    files that have not changed since they were hashed, `full` hashes them again. providers: execution providers
    that must be active, in order. text_memory: how many texts' embeddings are kept, 0 for none.
    workers: interpreters per LiteRT graph, so that as many threads run at once (ONNX Runtime needs none).
    Raises InputError, BundleError, IntegrityError, RuntimeMissing, GraphRefused, ProviderInactive.
    """
    if not isinstance(path, (str, PathLike)):
        raise InputError(f"load: expected the path of a bundle, got {type(path).__name__}")
    if verify not in ("stamp", "full"):
        raise InputError(f"verify: expected 'stamp' or 'full', got {verify!r}")
    if threads is not None:
        _check_whole("threads", threads, 0, THREADS_LIMIT)
    _check_whole("workers", workers, 1, WORKERS_LIMIT)
    _check_whole("text_memory", text_memory, 0, None)
    if isinstance(providers, str) or not all(isinstance(name, str) for name in providers):
        raise InputError(
            f"providers: expected a list of names, got {providers!r}", hint="providers=['CUDAExecutionProvider']"
        )
    bundle = open_bundle(path, verify="full" if verify == "full" else "stamp")
    run = bundle.manifest.run
    settings = Settings(
        threads=run.threads if threads is None else threads,
        spinning=run.spinning,
        providers=tuple(providers) or run.providers,
        cache=None,
    )
    fallback = run.fallback and not providers
    return Predictor(bundle, settings, fallback=fallback, text_memory=text_memory, workers=workers)


def _check_whole(name: str, value: int, least: int, most: int | None) -> None:
    """Refuse what is not a whole number within its bounds: a runtime would take it, or say something else."""
    whole = not isinstance(value, bool) and hasattr(value, "__index__")
    if not whole or value < least or (most is not None and value > most):
        bounds = f"from {least}" if most is None else f"{least} to {most}"
        raise InputError(f"{name}: expected a whole number {bounds}, got {value!r}")


def load_elsewhere(path: str | PathLike[str], open_graph: OpenGraph) -> Predictor:
    """A predictor whose graphs run where `open_graph` says, everything else here; no runtime is needed here."""
    bundle = open_bundle(path)
    run = bundle.manifest.run
    settings = Settings(threads=run.threads, spinning=run.spinning, providers=(), cache=None)
    return Predictor(bundle, settings, fallback=False, text_memory=0, workers=1, open_graph=open_graph)


class Hold(Protocol):
    """What keeps a deployed release in its place while a predictor is open (see apps.load_app)."""

    release: str

    def is_current(self) -> bool:
        """Whether the app still runs this release."""

    def close(self) -> None:
        """Let go of it."""


class Predictor:
    """Answers predict for one bundle; may be called from several threads; close it or use it in `with`."""

    def __init__(
        self,
        bundle: BundleDirectory,
        settings: Settings,
        *,
        fallback: bool,
        text_memory: int,
        workers: int,
        open_graph: OpenGraph | None = None,
    ) -> None:
        self.manifest: Manifest = bundle.manifest
        self.digest: str = bundle.digest
        self._bundle = bundle
        self._open_graph = open_graph
        self._closed = False
        self._hold: Hold | None = None
        self._graphs: dict[str, Graph] = {}
        self._plans: dict[tuple[str, ...], tuple[flow.Step, ...]] = {}
        try:
            self._steps = {
                spec.name: flow.wire(spec, self._load(spec, settings, fallback, workers))
                for spec in self.manifest.graphs
            }
            limits = self.manifest.limits
            self._prepare: dict[str, Prepare] = {
                keyword: preparer(spec, limits, self.read) for keyword, spec in self.manifest.inputs.items()
            }
            self._writer = self._open_writer()
            self._answer, self._together = self._answerers(text_memory)
        except BaseException:
            self.close()
            raise

    def hold(self, hold: Hold) -> None:
        """Keep this until the predictor is closed."""
        self._hold = hold

    @property
    def release(self) -> str | None:
        """The id of the deployed release that this is, None for a bundle that was loaded by its path."""
        return self._hold.release if self._hold else None

    def is_current(self) -> bool:
        """False once the app that `load_app` loaded runs another release: close this one and load the app again."""
        return self._hold is None or self._hold.is_current()

    def read(self, name: str) -> bytes:
        """The bytes of a small file of the bundle (labels, golden samples)."""
        return self._bundle.read(name, READ_LIMIT_BYTES)

    def _load(self, spec: GraphSpec, settings: Settings, fallback: bool, workers: int) -> Graph:
        if self._open_graph is not None:
            graph = self._graphs[spec.name] = self._open_graph(spec, self._bundle.path_for_loading(spec.file))
            check_ports(spec, graph.spec)
            return graph
        if spec.runtime == "litert":
            settings = settings.replace(providers=())
        data = self._bundle.path_for_loading(spec.data) if spec.data else None
        names = [name for name in (spec.file, spec.data) if name is not None]
        kept = graph_cache(self._bundle.path, [self.manifest.files[name].sha256 for name in names])
        settings = settings.replace(cache=kept)
        opener = load_with_fallback if fallback else load_graph
        graph = load_workers(opener(spec.runtime, self._bundle.path_for_loading(spec.file), settings, data), workers)
        self._graphs[spec.name] = graph
        for name in names:
            self._bundle.confirm(name)
        confirmed(graph)
        check_ports(spec, graph.spec)
        return graph

    def _open_writer(self) -> Writer | None:
        if self.manifest.generation is None:
            return None
        from edgekit.generation.writer import Writer

        def run(values: dict[str, Array], wanted: Sequence[str], lap: clock.Lap) -> None:
            flow.run(self._plan(values, wanted), values, lap)

        return Writer(self.manifest, self.manifest.generation, self._graphs, self._prepare, run, self.read)

    def _answerers(self, text_memory: int) -> tuple[Answer, tuple[RunRows, Finish] | None]:
        """How one predict is answered, and how the rows of a batch are, None where each item runs by itself."""
        spec = self.manifest.postprocess
        if isinstance(spec, Generated):
            return _unanswered, None
        if isinstance(spec, (Similarity, Embeddings)):
            from edgekit.sides import Sides

            candidates = self.manifest.limits.candidates
            sides = Sides(spec, self._run, candidates=candidates, text_memory=text_memory)
            return sides.answer, None
        wanted, finish = finisher(spec, self.read)

        def answer(given: Mapping[str, Any], lap: clock.Lap, seen: dict[str, Array]) -> Fields:
            contexts: dict[str, Any] = {}
            for keyword, value in given.items():
                prepared = self._prepare[keyword](value, lap)
                contexts[keyword] = prepared.context
                seen.update(prepared.values)
            flow.run(self._plan(seen, wanted), seen, lap)
            return finish(seen, contexts)

        def together(values: dict[str, Array], lap: clock.Lap) -> None:
            flow.run(self._plan(values, wanted), values, lap)

        if any(graph.state for graph in self.manifest.graphs):  # rows of one run are one sequence there
            return answer, None
        return answer, (together, finish)

    def _answer_one(self, item: Mapping[str, Any]) -> results.Result:
        return self._predict(item, {})

    def _prepare_checked(self, item: Mapping[str, Any], lap: clock.Lap) -> dict[str, Prepared]:
        given = {keyword: value for keyword, value in item.items() if value is not None}
        self._check(given)
        return self._prepare_all(given, lap)

    def _prepare_all(self, given: Mapping[str, Any], lap: clock.Lap) -> dict[str, Prepared]:
        return {keyword: self._prepare[keyword](value, lap) for keyword, value in given.items()}

    def predict(self, *, image: Any = None, text: Any = None, audio: Any = None, **named: Any) -> results.Result:
        """The typed result for these inputs.

        image: path, bytes, PIL image, (H, W, 3) or (H, W) uint8 array, Frame. audio: path, bytes or
        (samples, rate_hz). text: a string, or the list of candidate strings of a zero-shot task. Others: arrays.
        A bundle that generates text takes options as well: see `generate`.
        Raises InputError for what the bundle does not take, GraphRefused when a graph fails, ClosedError.
        """
        return self._predict({"image": image, "text": text, "audio": audio, **named}, {})

    def generate(
        self, *, image: Any = None, text: Any = None, audio: Any = None, **named: Any
    ) -> Generator[str, None, results.Result]:
        """The text piece by piece as it becomes certain; together the pieces are the text of predict's result.

        Inputs as for predict. Options, where the bundle has them: max_new_tokens, max_length, min_length,
        repetition_penalty, no_repeat_ngram, mode (`greedy`, `sample`), temperature, top_k, top_p, seed, prompt; for
        Whisper language, task, timestamps. The generator's return value is the result. Raises as predict does.
        """
        self._check_open()
        if self._writer is None:
            raise InputError(f"'{self.manifest.name}' generates no text", hint="predict gives its answer")
        return self._writer.write(
            {"image": image, "text": text, "audio": audio, **named}, None, self._check, piecewise=True
        )

    def trace(self, **given: Any) -> tuple[results.Result, dict[str, Array]]:
        """The result of predict, and every value of the flow on the way by name (for checks and debugging)."""
        seen: dict[str, Array] = {}
        return self._predict(given, seen, tracing=True), seen

    def predict_batch(self, items: Iterable[Mapping[str, Any]]) -> list[results.Result]:
        """One result per item, an item being the keywords of one predict; a failure names the item.

        Items whose tensors have the same shapes go through the graphs together, where these take several rows;
        their stage times are shared out evenly. Numbers may differ from predict's in the last digits.
        """
        self._check_open()
        if isinstance(items, (str, bytes, Mapping)) or not isinstance(items, Iterable):
            raise InputError(
                f"predict_batch: expected a list of items, got {type(items).__name__}",
                hint="each item is the keywords of one predict: [{'image': 'a.jpg'}, {'image': 'b.jpg'}]",
            )
        from edgekit import batch  # most apps never come here

        checked = [_checked_item(index, item) for index, item in enumerate(items)]
        if self._together is None:
            return batch.one_by_one(self._answer_one, checked)
        return batch.together(self._prepare_checked, *self._together, checked)

    def stream(self) -> Stream:
        """A stream that feeds the bundle's one input piece by piece and keeps state in between.

        Raises InputError for a bundle with several inputs, or one that needs the whole sound.
        """
        from edgekit.stream import Stream, refuse_unless_streamable, taker

        self._check_open()
        keyword = refuse_unless_streamable(self.manifest.inputs)
        spec = self.manifest.postprocess
        if isinstance(spec, (Similarity, Embeddings, Generated)):
            raise InputError(f"a {self.manifest.task} bundle has no stream")
        wanted, finish = finisher(spec, self.read)
        take = taker(self.manifest.inputs[keyword], self._prepare[keyword], self.manifest.limits)

        def run(values: dict[str, Array], lap: clock.Lap, states: dict[str, flow.States]) -> None:
            self._check_open()
            flow.run(self._plan(values, wanted), values, lap, states)

        return Stream(take, run, finish)

    def _predict(self, inputs: Mapping[str, Any], seen: dict[str, Array], *, tracing: bool = False) -> results.Result:
        if self._writer is not None:
            return self._writer.whole(inputs, seen if tracing else None, self._check)
        timings: dict[str, float] = {}
        lap = clock.start(timings)
        given = {keyword: value for keyword, value in inputs.items() if value is not None}
        if self._closed or not given or not self._prepare.keys() >= given.keys():
            self._check(given)
        kind, fields = self._answer(given, lap, seen)
        lap("postprocess")
        timings["total"] = sum(timings.values())
        return results.assemble(kind, fields, timings)

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError(f"'{self.manifest.name}' is closed", hint="load it again")

    def _check(self, given: Mapping[str, Any]) -> None:
        self._check_open()
        if given and given.keys() <= self._prepare.keys():
            return
        takes = ", ".join(f"{keyword}=" for keyword in self._prepare)
        wrong = [keyword for keyword in given if keyword not in self._prepare]
        raise InputError(f"'{self.manifest.name}' takes {takes}; got {', '.join(wrong) or 'nothing'}")

    def _run(self, given: Mapping[str, Any], wanted: Sequence[str], lap: clock.Lap) -> dict[str, Array]:
        return self._flow(
            {keyword: self._prepare[keyword](value, lap) for keyword, value in given.items()}, wanted, lap
        )

    def _flow(self, given: Mapping[str, Prepared], wanted: Sequence[str], lap: clock.Lap) -> dict[str, Array]:
        values = {name: array for prepared in given.values() for name, array in prepared.values.items()}
        flow.run(self._plan(values, wanted), values, lap)
        return values

    def _plan(self, values: Mapping[str, Array], wanted: Sequence[str]) -> tuple[flow.Step, ...]:
        """The steps from these values to the wanted ones, worked out once for each set of names."""
        key = (*values, "", *wanted)
        steps = self._plans.get(key)
        if steps is None:
            graphs = flow.needed(self.manifest.graphs, values, wanted)
            steps = self._plans[key] = tuple(self._steps[graph.name] for graph in graphs)
        return steps

    def close(self) -> None:
        """Free the graphs and the bundle's descriptors; a second call does nothing."""
        self._closed = True
        for graph in self._graphs.values():
            graph.close()
        self._bundle.close()
        if self._hold:
            self._hold.close()

    def __repr__(self) -> str:
        return f"<Predictor {self.manifest.name} {self.manifest.version}{', closed' if self._closed else ''}>"

    def __enter__(self) -> Predictor:
        self._check_open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _checked_item(index: int, item: Any) -> Mapping[str, Any]:
    if isinstance(item, Mapping):
        return item
    raise InputError(
        f"item {index}: expected the keywords of one predict, got {type(item).__name__}",
        hint="for example {'image': 'a.jpg'}",
    )


def _unanswered(given: Mapping[str, Any], lap: clock.Lap, seen: dict[str, Array]) -> Fields:
    raise InputError("this bundle's text is generated")
