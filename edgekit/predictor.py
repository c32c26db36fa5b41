"""What a user calls: load a bundle or an app, predict, close.

Nothing of a bundle's machinery is imported before something is loaded (see `engine.py`).
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from os import PathLike
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from edgekit import clock, results
from edgekit.arrays import Array
from edgekit.errors import ClosedError, InputError

if TYPE_CHECKING:
    from edgekit.engine import Engine, OpenGraph
    from edgekit.inputs import Prepared
    from edgekit.manifest import Manifest
    from edgekit.stream import Stream

THREADS_LIMIT = 1024
WORKERS_LIMIT = 64


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
    from edgekit.engine import open_engine

    return Predictor(
        open_engine(path, threads=threads, verify=verify, providers=providers, text_memory=text_memory, workers=workers)
    )


def load_app(name: str, *, root: str | PathLike[str] | None = None, threads: int | None = None) -> Predictor:
    """The predictor of the release that the app `name` runs on this device.

    It keeps its release, and the layer, until it is closed, whatever is deployed meanwhile; `is_current()` says
    whether the app was switched:

        if not clip.is_current():
            clip.close()
            clip = edgekit.load_app("clip")

    Outside the layer (an app's own environment) nothing but the release is read, and what the bundle requires must
    be installed. Raises BundleError where there is no such app, RuntimeMissing, and what `load` raises.
    """
    from edgekit.installed import app_root
    from edgekit.releases import hold_app
    from edgekit.requirements import refuse_unmet

    held = hold_app(name, app_root(root))
    try:
        predictor = load(held.bundle, threads=threads)
        if not held.in_layer:
            try:
                refuse_unmet(predictor.manifest.requires)
            except BaseException:
                predictor.close()
                raise
    except BaseException:
        held.close()
        raise
    predictor.hold(held)
    return predictor


def _check_whole(name: str, value: int, least: int, most: int | None) -> None:
    """Refuse what is not a whole number within its bounds: a runtime would take it, or say something else."""
    whole = not isinstance(value, bool) and hasattr(value, "__index__")
    if not whole or value < least or (most is not None and value > most):
        bounds = f"from {least}" if most is None else f"{least} to {most}"
        raise InputError(f"{name}: expected a whole number {bounds}, got {value!r}")


def load_elsewhere(path: str | PathLike[str], open_graph: OpenGraph) -> Predictor:
    """A predictor whose graphs run where `open_graph` says, everything else here; no runtime is needed here."""
    from edgekit.engine import open_elsewhere

    return Predictor(open_elsewhere(path, open_graph))


class Hold(Protocol):
    """What keeps a deployed release in its place while a predictor is open (see `load_app`)."""

    release: str

    def is_current(self) -> bool:
        """Whether the app still runs this release."""

    def close(self) -> None:
        """Let go of it."""


class Predictor:
    """Answers predict for one bundle; may be called from several threads; close it or use it in `with`."""

    def __init__(self, engine: Engine) -> None:
        self.manifest: Manifest = engine.manifest
        self.digest: str = engine.digest
        self._engine = engine
        self._prepare, self._answer, self._writer = engine.prepare, engine.answer, engine.writer
        self._closed = False
        self._hold: Hold | None = None

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
        return self._engine.read(name)

    def _answer_one(self, item: Mapping[str, Any]) -> results.Result:
        return self._predict(item, {})

    def _prepare_checked(self, item: Mapping[str, Any], lap: clock.Lap) -> dict[str, Prepared]:
        given = {keyword: value for keyword, value in item.items() if value is not None}
        self._check(given)
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
        if self._engine.together is None:
            return batch.one_by_one(self._answer_one, checked)
        return batch.together(self._prepare_checked, *self._engine.together, checked)

    def stream(self) -> Stream:
        """A stream that feeds the bundle's one input piece by piece and keeps state in between.

        Raises InputError for a bundle with several inputs, or one that needs the whole sound.
        """
        self._check_open()
        return self._engine.stream(self._check_open)

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

    def close(self) -> None:
        """Free the graphs and the bundle's descriptors; a second call does nothing."""
        self._closed = True
        self._engine.close()
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
