"""`profile`: measure a bundle, an app or a source through the same predict that an app calls."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgekit.errors import EdgekitError, InputError
from edgekit.operations.output import check_outputs as check_outputs
from edgekit.operations.output import write_output
from edgekit.operations.package import Note, choose_target, is_bundle, package
from edgekit.profiling.compare import Comparison, bounds, compare
from edgekit.profiling.compare import gate as gate
from edgekit.profiling.compare_output import compared_junit, compared_markdown, compared_text
from edgekit.profiling.html import render_html
from edgekit.profiling.options import options_for
from edgekit.profiling.profile import profile as measure
from edgekit.profiling.report import Report, dump_report, load_report
from edgekit.profiling.reruns import NEW, OLD, confirmed, of_variant
from edgekit.profiling.text import render
from edgekit.profiling.trace_file import dump_trace
from edgekit.profiling.workload import given_workload


def profile(
    source: str,
    device: str | None,
    *,
    target: str | None,
    resume: bool,
    variants: Sequence[str],
    images: Sequence[str],
    audios: Sequence[str],
    texts: Sequence[str],
    changes: dict[str, Any],
    note: Note,
    files: Sequence[Path] = (),
    answers: Mapping[str, str] | None = None,
    wheels: Sequence[Path] = (),
    offline: Path | None = None,
    runner: Path | None = None,
    baseline: Path | None = None,
) -> tuple[Report, EdgekitError | None]:
    """The report of a source on a device or (None) on this machine, and why it is not whole.

    Further variants of a recipe are measured in turn with the first. target: the device's kind; resume: see
    profile_there. baseline: a bundle that is measured in turn with the source, to be compared with it.

    images, audios, texts: the user's inputs, none for the bundle's golden sample. changes: keys of
    `profiling.options.Options` that differ from the usual ones. files, answers: for packaging; wheels, offline: for
    the layer that is brought to a device (see `deploy`). runner: for a
    device without Python.
    """
    for kind, paths in (("image", images), ("audio", audios)):
        for path in paths:
            if not Path(path).is_file():
                raise InputError(f"{kind}: there is no file {path}")
    if baseline is not None and (device is not None or len(variants) > 1):
        what = "on a device" if device is not None else "with several variants"
        raise InputError(
            f"a baseline's bundle cannot be measured in turn {what}",
            hint="compare with a report of it: --json old.json",
        )
    if device is not None:
        from edgekit.operations.profile_there import profile_there

        return profile_there(
            source,
            device,
            target=target,
            variants=variants,
            images=images,
            audios=audios,
            texts=texts,
            changes=changes,
            resume=resume,
            note=note,
            files=files,
            answers=answers,
            wheels=wheels,
            offline=offline,
            runner=runner,
        )
    if runner is not None:
        raise InputError("--runner is for a phone", hint="add --on adb:SERIAL")
    if resume:
        raise InputError("--resume fetches a profile from a device", hint="add --on DEVICE")
    if wheels or offline:
        raise InputError("--wheel and --offline are for the layer of a device", hint="add --on DEVICE")
    with tempfile.TemporaryDirectory(prefix="edgekit-profile-") as scratch:
        bundles = _bundles(source, variants, target, Path(scratch), note, files=files, answers=answers or {})
        if baseline is not None:
            bundles = {NEW: next(iter(bundles.values())), OLD: str(baseline)}
        name = next(iter(bundles))
        first = bundles.pop(name)
        variant = name if bundles else None
        options = options_for(
            first, variant=variant, variants=bundles, workload=given_workload(images, audios, texts), **changes
        )
        return measure(options, progress=note), None


def _bundles(
    source: str,
    variants: Sequence[str],
    target_name: str | None,
    scratch: Path,
    note: Note,
    *,
    files: Sequence[Path],
    answers: Mapping[str, str],
) -> dict[str, str]:
    """Bundle paths by variant, packaged for this machine where the source is none."""
    from edgekit.installed import app_root
    from edgekit.releases import current_release

    if is_bundle(Path(source)):
        if variants:
            raise InputError(f"{source} is one variant already", hint="profile the recipe: --variant a --variant b")
        return {"bundle": source}
    if not Path(source).exists() and (app_root() / "apps" / source).is_dir():
        return {"bundle": str(current_release(source, app_root()) / "bundle")}
    target = choose_target(target_name, note)
    found = {}
    for variant in variants or (None,):
        output = scratch / f"{variant or 'default'}.edgekit"
        package(source, target, variant, files, output, answers=dict(answers), progress=lambda *_: None, note=note)
        found[variant or "default"] = str(output)
    return found


def report_text(report: Report) -> str:
    """The report as a table for people."""
    return render(report)


def report_json(report: Report) -> str:
    """The report as JSON, every sample in it."""
    return dump_report(report).decode()


def write_report(report: Report, html: Path | None, trace: Path | None, json: Path | None) -> None:
    """Write the files that were asked for, each whole or not at all."""
    makers: tuple[tuple[Path | None, Callable[[], bytes]], ...] = (
        (html, lambda: render_html(report).encode()),
        (trace, lambda: dump_trace(report)),
        (json, lambda: dump_report(report)),
    )
    for path, make in makers:
        _write(path, make)


def write_comparison(found: Comparison, markdown: Path | None, junit: Path | None) -> str:
    """Write the files that were asked for, and give the comparison as text."""
    _write(markdown, lambda: compared_markdown(found).encode())
    _write(junit, lambda: compared_junit(found).encode())
    return compared_text(found)


def _write(path: Path | None, make: Callable[[], bytes]) -> None:
    if path is not None:
        write_output(path, make())


def read_baseline(path: Path) -> Report | Path:
    """What to compare with, before time is spent: an earlier report, or the path of a bundle."""
    return path if is_bundle(path) else read_report(path)


def read_report(path: Path) -> Report:
    """A report file. Raises InputError."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}", hint="edgekit profile SOURCE --json FILE writes one") from None
    return load_report(data, str(path))


def compare_with(old: Report | Path, new: Report, fail_above: float, again: Callable[[], Report]) -> Comparison:
    """What changed against an earlier report, or against a bundle that `new` was measured in turn with.

    again: measures once more, where something seems slower or cannot be told.
    """

    def judged(report: Report) -> Comparison:
        before = old if isinstance(old, Report) else of_variant(report, OLD)
        after = report if isinstance(old, Report) else of_variant(report, NEW)
        return compare(before, after, bounds(fail_above))

    return confirmed(judged(new), lambda: judged(again()))
