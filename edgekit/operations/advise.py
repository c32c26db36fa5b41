"""`advise`: of the variants there are, which fits a target best, with the grounds. No number is made up.

Measured where the target is this machine and that is asked for; else decided by what can be read: what the target
runs, the order of precisions and runtimes that its file gives, bytes and multiply-adds counted in the graphs.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from edgekit.compression.benefits import DOT_PRODUCTS
from edgekit.compression.facts import GraphFacts
from edgekit.compression.facts_text import count, size
from edgekit.compression.inspection import inspect_model
from edgekit.errors import EdgekitError, InputError
from edgekit.operations.compare import compare
from edgekit.operations.compare_records import Compared
from edgekit.operations.inspect import SUFFIXES, cpu_features, inspect_bundle
from edgekit.operations.package import Note, choose_target, package
from edgekit.packaging.recipe import known_recipes
from edgekit.records import Json, Record, dump
from edgekit.targets import Target, load_toml, local_target

Precision = Literal["float32", "float16", "int8", "int4"]
LOST_SHARE = 0.01
"""A variant that surely loses more of the score than this does not win, however fast it is."""

_VARIANT = re.compile(r"^(.*?)_(quantized|fp16|q4f16|q4|int8|uint8|bnb4|dynamic_int8|static_int8)$")


class Choice(Record):
    """One variant judged. why_not: why it does not run there, "" where it does. native: whether the target's CPU
    multiplies its numbers directly, null where that is not said. p50_ms, drop: measured here, null where not."""

    variant: str
    runtime: str
    precision: str
    why_not: str
    size_bytes: int
    weight_bytes: int
    parameters: int
    multiply_adds: int | None
    kinds: tuple[str, ...]
    native: bool | None
    doubts: tuple[str, ...]
    p50_ms: float | None
    drop: float | None
    drop_low: float | None


class Advice(Record):
    """The variants, best first. basis: what the order rests on."""

    source: str
    target: str
    best: str
    because: str
    basis: tuple[str, ...]
    choices: tuple[Choice, ...]

    def to_dict(self) -> Json:
        """Plain JSON."""
        return dump(self)

    def __str__(self) -> str:
        lines = [f"{self.target}: {self.best}", f"  because {self.because}"]
        lines += [f"  based on {text}" for text in self.basis]
        for c in self.choices:
            work = count(c.multiply_adds) if c.multiply_adds is not None else "-"
            timed = f"{c.p50_ms:.3f} ms" if c.p50_ms is not None else ""
            lost = f"{c.drop:+.2%} lost" if c.drop is not None else ""
            said = f"does not fit: {c.why_not}" if c.why_not else f"{size(c.size_bytes):>10} {work:>8} {timed} {lost}"
            lines.append(f"  {c.variant:<16} {c.runtime:<11} {c.precision:<8} {said}".rstrip()[:100])
        return "\n".join(lines)


def advise(source: str, *, target: str | None, data: Path | None, measure: bool, note: Note) -> Advice:
    """Judge the variants of a recipe, or the model files of a folder, for a target. Raises InputError, TargetError."""
    kind = choose_target(target, note)
    is_here = _is_here(kind)
    if measure and not is_here:
        raise InputError(f"{kind.name} is not this machine: nothing can be measured here for it")
    if measure or data is not None:
        note("measuring" if measure else "comparing")
    path = Path(source)
    recipe = _recipe_of(path, source)
    features = cpu_features() if is_here else None
    with tempfile.TemporaryDirectory(prefix="edgekit-advise-") as scratch:
        if recipe is not None:
            choices, bundles = _recipe_choices(recipe, kind, features, Path(scratch), note)
        elif path.is_dir():
            choices, bundles = _folder_choices(path, kind, features), {}
        else:
            raise InputError(f"'{source}' is no recipe and no folder", hint="advise weighs the variants of one model")
        compared = _compared(bundles, choices, data, measure, note)
    return decide(source, kind, [_with_measured(c, compared) for c in choices], features)


def _is_here(target: Target) -> bool:
    try:
        return local_target().name == target.name
    except EdgekitError:
        return False


def _recipe_of(path: Path, source: str) -> Path | None:
    if path.suffix == ".toml" and path.is_file():
        return path
    if (path / "recipe.toml").is_file():
        return path / "recipe.toml"
    return known_recipes().get(source) if not path.exists() else None


def _recipe_choices(
    recipe: Path, target: Target, features: frozenset[str] | None, scratch: Path, note: Note
) -> tuple[list[Choice], dict[str, Path]]:
    """Each variant packaged for the target and inspected; one that cannot be says why."""
    written = load_toml(recipe).get("variants")
    listed = [v for v in written if isinstance(v, dict)] if isinstance(written, list) else []
    choices: list[Choice] = []
    bundles: dict[str, Path] = {}
    for entry in listed:
        name = str(entry.get("name", ""))
        runtime, precision = str(entry.get("runtime", "")), str(entry.get("precision", ""))
        bundle = scratch / f"{len(choices)}.edgekit"
        try:
            if not target.runs(runtime):
                raise InputError(f"needs {runtime}, it has {', '.join(target.runtimes)}")
            package(str(recipe), target, name, [], bundle, answers={}, progress=lambda *_: None, note=lambda _: None)
            graphs = inspect_bundle(bundle, target, features, {}).graphs
        except EdgekitError as error:
            choices.append(_refused(name, runtime, precision, error.message))
            continue
        choices.append(_choice(name, runtime, precision, bundle.stat().st_size, graphs, target, features))
        bundles[name] = bundle
    if not choices:
        raise InputError(f"{recipe}: no variants")
    note(f"{len(choices)} variants")
    return choices, bundles


def _folder_choices(folder: Path, target: Target, features: frozenset[str] | None) -> list[Choice]:
    """Model files grouped by the variant that their names end with, and by format."""
    groups: dict[tuple[str, str], dict[str, Path]] = {}
    for path in sorted(p for p in folder.rglob("*") if p.suffix in SUFFIXES and p.is_file()):
        found = _VARIANT.match(path.stem)
        role, variant = (found[1], found[2]) if found else (path.stem, "plain")
        groups.setdefault((path.suffix[1:], variant), {})[role] = path
    if not groups:
        raise InputError(f"{folder}: no model file below it", hint=f"expected {', '.join(SUFFIXES)}")
    choices = []
    for (suffix, variant), files in groups.items():
        name = f"{variant}.{suffix}"
        runtime = "litert" if suffix == "tflite" else "onnxruntime"
        graphs = {role: inspect_model(path, target=target, features=features) for role, path in files.items()}
        total = sum(g.size_bytes for g in graphs.values())
        choices.append(_choice(name, runtime, precision_of(graphs), total, graphs, target, features))
    return choices


def precision_of(graphs: Mapping[str, GraphFacts]) -> Precision:
    """The precision that most parameters of these graphs are computed or stored in."""
    shares = {"int4": 0.0, "int8": 0.0, "float16": 0.0}
    total = sum(g.parameters for g in graphs.values()) or 1
    for graph in graphs.values():
        for found in graph.findings:
            bits = found.figure or 8.0
            if found.kind in ("qdq", "qoperator", "integer", "dynamic", "weight-only"):
                shares["int4" if bits <= 4 else "int8"] += found.share * graph.parameters / total
            elif found.kind == "float16":
                shares["float16"] += found.share * graph.parameters / total
    best = max(shares, key=lambda name: shares[name])
    if shares[best] < 0.1:
        return "float32"
    return "int4" if best == "int4" else "int8" if best == "int8" else "float16"


def _refused(name: str, runtime: str, precision: str, why: str) -> Choice:
    return Choice(
        variant=name,
        runtime=runtime,
        precision=precision,
        why_not=why,
        size_bytes=0,
        weight_bytes=0,
        parameters=0,
        multiply_adds=None,
        kinds=(),
        native=None,
        doubts=(),
        p50_ms=None,
        drop=None,
        drop_low=None,
    )


def _choice(
    name: str,
    runtime: str,
    precision: str,
    size_bytes: int,
    graphs: Mapping[str, GraphFacts],
    target: Target,
    features: frozenset[str] | None,
) -> Choice:
    weight_bytes = sum(g.weight_bytes for g in graphs.values())
    counted = not any(g.not_counted for g in graphs.values())
    why_not = "" if target.runs(runtime) else f"needs {runtime}, it has {', '.join(target.runtimes)}"
    smallest = min(target.ram_mb) * 10**6 if target.ram_mb else None
    if smallest is not None and weight_bytes > smallest:
        why_not = why_not or f"needs {size(weight_bytes)} for weights alone, the smallest board has {size(smallest)}"
    return Choice(
        variant=name,
        runtime=runtime,
        precision=precision,
        why_not=why_not,
        size_bytes=size_bytes,
        weight_bytes=weight_bytes,
        parameters=sum(g.parameters for g in graphs.values()),
        multiply_adds=sum(g.multiply_adds for g in graphs.values()) if counted else None,
        kinds=tuple(dict.fromkeys(k for g in graphs.values() for k in g.kinds())),
        native=_is_native(precision, target, features),
        doubts=tuple(f"{layer.name}: {d}" for g in graphs.values() for layer in g.layers for d in layer.doubts),
        p50_ms=None,
        drop=None,
        drop_low=None,
    )


def _is_native(precision: str, target: Target, features: frozenset[str] | None) -> bool | None:
    cpu = features if features is not None else frozenset(target.cpu_features)
    if precision == "float32":
        return True
    if not cpu:
        return None
    if precision == "int8":
        return any(name in cpu for name in DOT_PRODUCTS)
    return "asimdhp" in cpu or "avx512_fp16" in cpu if precision == "float16" else False


def _compared(
    bundles: Mapping[str, Path], choices: Sequence[Choice], data: Path | None, measure: bool, note: Note
) -> Compared | None:
    """All variants against the most precise one."""
    if (not measure and data is None) or len(bundles) < 2:
        return None
    order = ["float32", "float16", "int8", "int4"]
    ranked = sorted((c for c in choices if c.variant in bundles), key=lambda c: _index(order, c.precision))
    sources = [str(bundles[c.variant]) for c in ranked]
    found = compare(
        sources, data=data, limit=None, runs=50, seconds=1.0, latency=measure, qualities=(), scales=(), note=note
    )
    named = [one.replace(name=c.variant) for one, c in zip(found.candidates, ranked)]
    return found.replace(candidates=tuple(named))


def _index(order: Sequence[str], word: str) -> int:
    return order.index(word) if word in order else len(order)


def _with_measured(choice: Choice, compared: Compared | None) -> Choice:
    one = next((c for c in compared.candidates if c.name == choice.variant), None) if compared else None
    if one is None:
        return choice
    enough = compared is not None and compared.data != "golden samples"
    return choice.replace(
        p50_ms=one.latency.p50_ms if one.latency else None,
        drop=one.drop.value if enough else None,
        drop_low=one.drop.low if enough else None,
        doubts=(*choice.doubts, *one.broken),
    )


def decide(source: str, target: Target, choices: Sequence[Choice], features: frozenset[str] | None) -> Advice:
    """The order of the variants for a target, and why the first one is first. Raises InputError where none fits."""
    if all(c.why_not for c in choices):
        raise InputError(f"no variant of {source} fits {target.name}: {choices[0].variant} {choices[0].why_not}")
    timed = all(c.p50_ms is not None for c in choices if not c.why_not)

    def key(c: Choice) -> tuple[float, ...]:
        lost = c.drop_low is not None and c.drop_low > LOST_SHARE
        first = (float(bool(c.why_not)), float(bool(_serious(c))), float(lost))
        if timed:
            return (*first, c.p50_ms or 0.0, float(c.size_bytes))
        # The target's file orders precisions and runtimes by what was measured on such boards.
        order = (_index(target.precisions, c.precision), _index(target.runtimes, c.runtime))
        work = float(c.multiply_adds) if c.multiply_adds is not None else float("inf")
        return (*first, *map(float, order), work, float(c.size_bytes))

    ordered = tuple(sorted(choices, key=key))
    return Advice(
        source=source,
        target=target.name,
        best=ordered[0].variant,
        because=_because(ordered, target, timed),
        basis=tuple(_basis(ordered, target, timed, features)),
        choices=ordered,
    )


def _serious(choice: Choice) -> list[str]:
    """Doubts that make a variant come last; dead channels are common in sound models."""
    return [doubt for doubt in choice.doubts if "channels are zero" not in doubt]


def _because(ordered: Sequence[Choice], target: Target, timed: bool) -> str:
    best = ordered[0]
    rest = [c for c in ordered[1:] if not c.why_not]
    said = []
    if timed and best.p50_ms is not None:
        said.append(f"it is the fastest measured here ({best.p50_ms:.3f} ms)")
    else:
        said.append(f"{best.precision} on {best.runtime} comes first in what {target.name} prefers")
        if best.native is False:
            said.append(f"though its CPU does not multiply {best.precision} directly")
    if rest:
        largest = max(rest, key=lambda c: c.size_bytes)
        if best.size_bytes < largest.size_bytes:
            said.append(f"{size(best.size_bytes)} against {size(largest.size_bytes)} of {largest.variant}")
    passed = [c.variant for c in rest if _serious(c) or (c.drop_low or 0.0) > LOST_SHARE]
    if passed:
        said.append(f"{', '.join(passed)} look wrong or lose too much")
    if best.drop is not None:
        said.append(f"it loses {best.drop:+.2%} of the score")
    return "; ".join(said)


def _basis(ordered: Sequence[Choice], target: Target, timed: bool, features: frozenset[str] | None) -> list[str]:
    basis = []
    if timed:
        basis.append("latency measured on this machine, in turn")
    else:
        basis.append(f"the order of precisions ({', '.join(target.precisions)}) and of runtimes that the target gives")
        basis.append("bytes and multiply-adds counted in the files; no latency was measured")
    cpu = sorted(features) if features is not None else list(target.cpu_features)
    known = [name for name in cpu if name in (*DOT_PRODUCTS, "asimdhp", "avx512_fp16")]
    if known:
        basis.append(f"CPU features: {', '.join(known)}")
    if any(c.drop is not None for c in ordered):
        basis.append("the score on the data given")
    else:
        basis.append("no accuracy: give --data to weigh it")
    return basis
