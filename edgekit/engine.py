"""What a bundle becomes when it is loaded: its graphs, wired, and a function that prepares each input and answers.

`predictor.py` is what a user calls; it imports this when something is loaded, because all of a bundle's machinery
comes with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

from edgekit import clock, flow
from edgekit.arrays import Array
from edgekit.bundle import BundleDirectory, open_bundle
from edgekit.errors import InputError
from edgekit.inputs import Prepare, preparer
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

READ_LIMIT_BYTES = 64 << 20
"""Of a file that is read into memory (tokenizer, labels, golden sample); graphs never are."""


def open_engine(
    path: str | PathLike[str],
    *,
    threads: int | None,
    verify: str,
    providers: Sequence[str],
    text_memory: int,
    workers: int,
) -> Engine:
    """The engine of a bundle in this process; parameters and errors are those of `predictor.load`."""
    bundle = open_bundle(path, verify="full" if verify == "full" else "stamp")
    run = bundle.manifest.run
    settings = Settings(
        threads=run.threads if threads is None else threads,
        spinning=run.spinning,
        providers=tuple(providers) or run.providers,
        cache=None,
    )
    fallback = run.fallback and not providers
    return Engine(bundle, settings, fallback=fallback, text_memory=text_memory, workers=workers)


def open_elsewhere(path: str | PathLike[str], open_graph: OpenGraph) -> Engine:
    """An engine whose graphs run where `open_graph` says, everything else here; no runtime is needed here."""
    bundle = open_bundle(path)
    run = bundle.manifest.run
    settings = Settings(threads=run.threads, spinning=run.spinning, providers=(), cache=None)
    return Engine(bundle, settings, fallback=False, text_memory=0, workers=1, open_graph=open_graph)


class Engine:
    """The loaded parts of one bundle, until `close`; they may be used from several threads.

    Attributes: manifest; digest; prepare (a function for each keyword); answer; together (how the rows of a batch
    run, None where each item runs by itself); writer (of a bundle that generates text, else None).
    """

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
        self._graphs: dict[str, Graph] = {}
        self._plans: dict[tuple[str, ...], tuple[flow.Step, ...]] = {}
        try:
            self._steps = {
                spec.name: flow.wire(spec, self._load(spec, settings, fallback, workers))
                for spec in self.manifest.graphs
            }
            limits = self.manifest.limits
            self.prepare: dict[str, Prepare] = {
                keyword: preparer(spec, limits, self.read) for keyword, spec in self.manifest.inputs.items()
            }
            self.writer = self._open_writer()
            self.answer, self.together = self._answerers(text_memory)
        except BaseException:
            self.close()
            raise

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

        return Writer(self.manifest, self.manifest.generation, self._graphs, self.prepare, run, self.read)

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
                prepared = self.prepare[keyword](value, lap)
                contexts[keyword] = prepared.context
                seen.update(prepared.values)
            flow.run(self._plan(seen, wanted), seen, lap)
            return finish(seen, contexts)

        def together(values: dict[str, Array], lap: clock.Lap) -> None:
            flow.run(self._plan(values, wanted), values, lap)

        if any(graph.state for graph in self.manifest.graphs):  # rows of one run are one sequence there
            return answer, None
        return answer, (together, finish)

    def stream(self, check_open: Callable[[], None]) -> Stream:
        """See `Predictor.stream`; `check_open` is called before every run."""
        from edgekit.stream import Stream, refuse_unless_streamable, taker

        keyword = refuse_unless_streamable(self.manifest.inputs)
        spec = self.manifest.postprocess
        if isinstance(spec, (Similarity, Embeddings, Generated)):
            raise InputError(f"a {self.manifest.task} bundle has no stream")
        wanted, finish = finisher(spec, self.read)
        take = taker(self.manifest.inputs[keyword], self.prepare[keyword], self.manifest.limits)

        def run(values: dict[str, Array], lap: clock.Lap, states: dict[str, flow.States]) -> None:
            check_open()
            flow.run(self._plan(values, wanted), values, lap, states)

        return Stream(take, run, finish)

    def _run(self, given: Mapping[str, Any], wanted: Sequence[str], lap: clock.Lap) -> dict[str, Array]:
        values: dict[str, Array] = {}
        for keyword, value in given.items():
            values.update(self.prepare[keyword](value, lap).values)
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
        for graph in self._graphs.values():
            graph.close()
        self._bundle.close()


def _unanswered(given: Mapping[str, Any], lap: clock.Lap, seen: dict[str, Array]) -> Fields:
    raise InputError("this bundle's text is generated")
