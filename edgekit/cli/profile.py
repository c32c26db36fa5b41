"""The command that measures: profile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgekit.cli.options import (
    answers_option,
    duration,
    files_option,
    numbers,
    offline_option,
    on_option,
    runner_option,
    share,
    target_option,
    wheels_option,
)
from edgekit.cli.terminal import LiveLine, say


@click.command()
@click.argument("source")
@on_option
@click.option("--resume", is_flag=True, help="With --on: follow and fetch what was begun there before.")
@runner_option
@target_option
@files_option
@answers_option
@wheels_option
@offline_option
@click.option("--image", "images", multiple=True, metavar="FILE", help="Measure with this picture (repeatable).")
@click.option("--audio", "audios", multiple=True, metavar="FILE", help="Measure with this sound (repeatable).")
@click.option("--text", "texts", multiple=True, metavar="S", help="Measure with this text (repeatable).")
@click.option("--variant", "variants", multiple=True, metavar="V", help="Variant of a recipe; several in turn.")
@click.option("--threads", callback=numbers, help="Runtime threads to sweep, e.g. 1,2,4.")
@click.option("--callers", callback=numbers, help="Numbers of threads that call predict at once.")
@click.option("--batches", callback=numbers, help="Sizes of predict_batch.")
@click.option("--runs", "min_runs", type=click.IntRange(1), help="At least so many runs [default: 100].")
@click.option("--seconds", "min_s", type=click.FloatRange(0), help="At least so long [default: 10].")
@click.option("--scenario", type=click.Choice(["default", "single-stream"]), help="single-stream: MLPerf's rules.")
@click.option("--pace", "pace_hz", type=click.FloatRange(0, min_open=True), help="Calls per second, instead of all.")
@click.option("--sustained", "sustained_s", callback=duration, metavar="TIME", help="Follow it so long, e.g. 10m.")
@click.option("--cold-starts", type=click.IntRange(0), help="Fresh processes to start [default: 5].")
@click.option("--no-operators", is_flag=True, help="Leave out the operator table.")
@click.option("--json", "json_file", metavar="FILE", help="Write the report as JSON (- for stdout).")
@click.option("--html", "html_file", type=click.Path(path_type=Path), help="Write one HTML page.")
@click.option("--trace", "trace_file", type=click.Path(path_type=Path), help="Write a Perfetto trace.")
@click.option("--compare", "old", type=click.Path(path_type=Path), help="Report (JSON) or bundle to compare with.")
@click.option("--fail-above", callback=share, default="10%", help="Gate of --compare [default: 10%].")
@click.option("--markdown", "markdown_file", type=click.Path(path_type=Path), help="Write the comparison as Markdown.")
@click.option("--junit", "junit_file", type=click.Path(path_type=Path), help="Write the comparison as JUnit XML.")
def profile(
    source: str,
    device: str | None,
    resume: bool,
    runner: Path | None,
    target: str | None,
    files: tuple[Path, ...],
    answers: dict[str, str],
    wheels: tuple[Path, ...],
    offline: Path | None,
    images: tuple[str, ...],
    audios: tuple[str, ...],
    texts: tuple[str, ...],
    variants: tuple[str, ...],
    no_operators: bool,
    json_file: str | None,
    html_file: Path | None,
    trace_file: Path | None,
    old: Path | None,
    fail_above: float,
    markdown_file: Path | None,
    junit_file: Path | None,
    **given: Any,
) -> None:
    """Measure SOURCE (bundle, app or recipe) through the predict that an app calls: stages, memory, operators, heat.

    \b
    edgekit profile tridigit.edgekit
    edgekit profile tridigit --variant fp32 --variant int8 --threads 1,2
    edgekit profile tridigit --on pi@raspberrypi.local --sustained 10m --html heat.html
    edgekit profile tridigit --on adb:SERIAL --runner benchmark_model --threads 1,4
    edgekit profile app --json new.json --compare old.json --fail-above 10%
    """
    from edgekit.operations import profile as operations

    changes = {key: value for key, value in given.items() if value is not None}
    changes |= {"operators": False} if no_operators else {}
    chosen: dict[str, Any] = {"variants": variants, "images": images, "audios": audios, "texts": texts}
    chosen |= {"files": files, "answers": answers, "wheels": wheels, "offline": offline}
    json_path = None if json_file in (None, "-") else Path(str(json_file))
    operations.check_outputs(html_file, trace_file, json_path, markdown_file, junit_file)
    before = None if old is None else operations.read_baseline(old)
    bundle = before if isinstance(before, Path) else None

    def measured(resume: bool, changes: dict[str, Any]) -> tuple[Any, Any]:
        with LiveLine() as note:
            return operations.profile(
                source,
                device,
                target=target,
                resume=resume,
                changes=changes,
                runner=runner,
                note=note,
                baseline=bundle,
                **chosen,
            )

    def again() -> Any:
        say("not settled yet: measured again")
        return measured(False, {**changes, "operators": False})[0]

    report, problem = measured(resume, changes)
    click.echo(operations.report_json(report) if json_file == "-" else operations.report_text(report))
    operations.write_report(report, html_file, trace_file, json_path)
    if before is not None:
        found = operations.compare_with(before, report, fail_above, again)
        say(operations.write_comparison(found, markdown_file, junit_file))
        operations.gate(found)
    if problem is not None:
        raise problem
