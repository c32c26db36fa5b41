"""`tests/bench/run.sh`: install the peers, measure every row, print the table, write JSON and BENCHMARKS.md.

The first process needs nothing but Python; it makes the environments and starts itself again in the one with torch.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from bench import environment


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__.splitlines()[0])
    parser.add_argument("rows", nargs="*", help="only groups whose name or row contains one of these")
    parser.add_argument("--env", type=Path, default=environment.default_folder(), help="where the peers are installed")
    parser.add_argument("--seconds", type=float, default=8.0, help="per group in one process")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="cpu: where others use the machine")
    parser.add_argument("--processes", type=int, default=11, help="rounds of rows in fresh processes")
    parser.add_argument("--json", type=Path, default=Path("bench.json"))
    parser.add_argument("--markdown", type=Path, help="write BENCHMARKS.md here")
    arguments = parser.parse_args()
    found = environment.prepare(arguments.env.resolve())
    if os.environ.get("EDGEKIT_BENCH_INSIDE") != "1":
        os.environ.update(environment.child_environment(EDGEKIT_BENCH_INSIDE="1"))
        os.execv(found.full, [str(found.full), "-W", "ignore", "-m", "bench", *sys.argv[1:]])
    with tempfile.TemporaryDirectory(prefix="edgekit-bench-") as folder:
        os.environ["EDGEKIT_CACHE"] = str(Path(folder) / "cache")
        return run(arguments, found, Path(folder))


def run(arguments: argparse.Namespace, peers: environment.Environment, folder: Path) -> int:
    """Everything that was asked for; 0 also where a row is short, which is for the reader to judge."""
    from bench import report, rows_image, rows_start
    from bench.measure import Finding, measure

    started = report.machine()
    findings: list[Finding] = []
    extra: list[str] = []
    if arguments.clock == "cpu":
        extra.append("Rows in one process are in processor time of all threads: the machine was not quiet.")

    def wanted(*names: str) -> bool:
        return not arguments.rows or any(part.lower() in name.lower() for part in arguments.rows for name in names)

    for name, make in groups(folder):
        try:
            if not arguments.rows or wanted(name):
                for group in make():
                    print(f"{group.name} ...", file=sys.stderr)
                    findings += measure(group, arguments.seconds, arguments.clock)
        except ImportError as error:  # a peer that has no wheel here is a gap in the table, not the end of it
            print(f"{name}: {error}", file=sys.stderr)
            extra.append(f"Not measured: {name} ({error}).")
    programs = [row for row in rows_start.ROWS if wanted("start " + row.name, *(c.row for _, _, c in row.claims))]
    if programs:
        rows_start.prepare(folder, peers)
    for row in programs:
        print(f"{row.name} ...", file=sys.stderr)
        findings += rows_start.measure(row, folder, peers, arguments.processes)
    if wanted("image I7"):
        found = rows_image.p95_beside_a_neighbour()
        extra.append(
            f"I7, a 640x480 frame by matrix, 400 calls, OpenBLAS as it comes: alone p50 {found['alone_p50']:.2f} ms, "
            f"p95 {found['alone_p95']:.2f} ms; beside a busy process p50 {found['beside_p50']:.2f} ms and p95 "
            f"{found['beside_p95']:.2f} ms, which is {found['beside_p95'] - found['alone_p50']:.2f} ms above the p50 "
            "alone (goal: at most 6)."
        )
    ended = report.machine()
    print(report.text(findings))
    print("\n".join(extra))
    report.write_json(arguments.json, findings, started, ended)
    if arguments.markdown is not None:
        notes = Path(__file__).with_name("notes.md").read_text("utf-8")
        report.write_markdown(arguments.markdown, findings, started, ended, extra, notes)
    return 0


def groups(folder: Path) -> Iterator[tuple[str, Callable[[], Iterator[object]]]]:
    """Name and maker of every group that is measured in this process."""
    from bench import data, rows_audio, rows_image, rows_runtime, rows_text

    sizes = tuple(data.SIZES)
    yield "image files I1 I2 I3 I4", lambda: rows_image.files(sizes)
    yield "image frames I5", lambda: rows_image.frames(sizes)
    yield "image normalise", rows_image.stages
    yield "image mediapipe I8", lambda: rows_image.mediapipe(sizes, folder)
    yield "audio log-mel A1 A2", rows_audio.log_mel
    yield "audio fbank A3", rows_audio.filter_bank
    yield "audio resample A4", rows_audio.resample
    yield "audio wav A5", rows_audio.wav
    yield "audio silero A6", lambda: rows_audio.silero(folder)
    yield "text T1", rows_text.sentence
    yield "runtime onnx R1 R2 R3", lambda: rows_runtime.onnx_calls(folder)
    yield "runtime litert R4", lambda: rows_runtime.litert_calls(folder)


if __name__ == "__main__":
    sys.exit(main())
