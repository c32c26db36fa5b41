"""Reports made of known numbers, for the tests of what is done with reports: none of it is measured."""

from __future__ import annotations

import math
import random
from typing import Any

from edgekit.profiling.assemble import Facts, Gathered, assemble
from edgekit.profiling.coldstart import ColdStart
from edgekit.profiling.measure import Samples, Slice, Warmup, rules_for
from edgekit.profiling.memory import MemoryPhase
from edgekit.profiling.operators import Node, OperatorTable, explain_slow, table
from edgekit.profiling.readings import fact, known, no_throttle_flags, unknown
from edgekit.profiling.report import Environment, Report, Subject
from edgekit.profiling.sampler import Measured, Trace, trace_of
from edgekit.profiling.sensors import Snapshot
from edgekit.profiling.workload import Workload

STAGES = {"decode": 0.20, "preprocess": 0.12, "graph:image": 0.58, "postprocess": 0.10}
BEGAN_S = 1000.0


def samples(
    runs: int = 400,
    *,
    p50_ms: float = 20.0,
    spread: float = 0.03,
    knee_at: float = 1.0,
    slower_after: float = 1.0,
    seed: int = 1,
    shares: dict[str, float] = STAGES,
) -> Samples:
    """Runs around a median; from the share `knee_at` of them on they take `slower_after` times as long."""
    draw = random.Random(seed)
    totals = []
    for i in range(runs):
        level = p50_ms * (slower_after if i >= knee_at * runs else 1.0)
        totals.append(level * math.exp(draw.gauss(0.0, spread)))
    starts, at = [], 0.0
    for total in totals:
        starts.append(at)
        at += total / 1e3
    return Samples(
        rules=rules_for(),
        threads=1,
        warmup=Warmup(began_s=BEGAN_S - 0.6, runs=12, duration_s=0.6, first_ms=p50_ms * 3.0, settled=True),
        runs=runs,
        kept_every=1,
        slowest_ms=max(totals),
        began_s=BEGAN_S,
        slices=(Slice(from_s=0.0, to_s=at, waited_s=0.0, cool=None),),
        start_s=tuple(starts),
        total_ms=tuple(totals),
        stages_ms={name: tuple(total * share for total in totals) for name, share in shares.items()},
        details={},
        duration_s=at,
        cpu_ms_per_call=p50_ms * 1.1,
        late_runs=0,
        stopped=None,
    )


def trace(duration_s: float, *, knee_at: float = 1.0, watts: float = 6.0, throttled: bool = False) -> Trace:
    """A board that warms up to 80 C, loses clock after `knee_at` of the time, and tells its power."""
    readings = []
    steps = 60
    for i in range(steps + 1):
        share = i / steps
        hot = share >= knee_at
        degrees = 48.0 + 32.0 * (1 - math.exp(-12 * share))
        readings.append(
            (
                share * (duration_s + 2.0),
                [
                    Measured("clock.policy0", "MHz", 1500.0 if hot else 2400.0, None, "/sys"),
                    Measured("temp.cpu", "C", degrees, None, "/sys"),
                    Measured("power.VDD_IN", "W", watts if share * (duration_s + 2.0) >= 2.0 else 2.0, None, "/sys"),
                    Measured("throttled", "flag", 1.0 if hot and throttled else 0.0, None, "/sys"),
                    Measured("fan.0", "rpm", None, "/sys has no fan", "none"),
                ],
            )
        )
    return trace_of(readings, rate_hz=2.0, began_s=BEGAN_S - 2.0, missed=0)


def environment(**changes: Any) -> Environment:
    fields: dict[str, Any] = {
        "id": "0123456789abcdef",
        "board": "Raspberry Pi 5 Model B Rev 1.0",
        "cpu": "4 x Cortex-A76",
        "architecture": "aarch64",
        "cores": 4,
        "ram_bytes": known(8 * 2**30),
        "os": "Debian GNU/Linux 12 (bookworm)",
        "kernel": "6.12.34+rpt-rpi-2712",
        "python": "3.11.2",
        "governor": fact("ondemand", ""),
        "power_mode": fact(None, "no nvpmodel: not a Jetson"),
        "clock_limit_mhz": known(2400.0),
    }
    return Environment(**{**fields, **changes})


def snapshot(degrees: float = 50.0, mhz: float = 2400.0, at_s: float = 0.0) -> Snapshot:
    return Snapshot(
        temperature_c=known(degrees),
        clock_mhz=known(mhz),
        throttle=no_throttle_flags("no firmware"),
        busy_s=10.0 + at_s,
        at_s=at_s,
        own_s=at_s * 0.9,
    )


def operators(precision: str = "float32", kinds: dict[str, float] | None = None) -> OperatorTable:
    kinds = kinds or {"Conv": 900.0, "Gemm": 200.0, "MaxPool": 80.0, "Softmax": 12.0}
    runs = [
        [
            Node(f"/{op.lower()}/{op}", op, us + run, "1x3x224x224 -> 1x8x112x112", "float", "CPUExecutionProvider")
            for op, us in kinds.items()
        ]
        for run in range(5)
    ]
    total_ms = sum(kinds.values()) / 1e3
    found = table(
        "image",
        "onnxruntime",
        "ONNX Runtime's profile",
        runs,
        run_ms=[total_ms * 1.05] * 5,
        plain_ms=[total_ms] * 5,
        profiled_ms=[total_ms * 1.05] * 5,
    )
    return found.replace(slow_because=explain_slow(found.operators, precision, frozenset({"fp", "asimd"})))


def facts(**changes: Any) -> Facts:
    fields: dict[str, Any] = {
        "created_utc": "2026-11-23T01:02:03Z",
        "subject": Subject(
            variant=None,
            name="bird-watcher",
            version="1.2",
            task="image-classification",
            bundle_digest="a" * 64,
            release=None,
            graphs={"image": "model.onnx, onnxruntime, float32"},
        ),
        "others": (),
        "workload": Workload(origin="golden", items=({"image": {"file": "cat.jpg"}},), described="golden sample 'cat'"),
        "environment": environment(),
        "runtime_versions": {"edgekit": "0.1.0", "onnxruntime": "1.32.0"},
        "battery": fact(None, "no battery"),
        "audio_s": unknown("there is no sound in the input"),
        "is_sustained": False,
    }
    return Facts(**{**fields, **changes})


def others() -> tuple[Subject, ...]:
    return (facts().subject.replace(variant="int8", bundle_digest="b" * 64),)


def cold_start(variant: str | None = None) -> ColdStart:
    return ColdStart(
        variant=variant,
        processes=3,
        parts_ms={
            "interpreter": (60.0, 61.0, 62.0),
            "imports": (300.0, 310.0, 320.0),
            "open": (20.0, 21.0, 22.0),
            "session": (150.0, 140.0, 145.0),
            "first_predict": (45.0, 44.0, 43.0),
        },
        total_ms=(575.0, 576.0, 592.0),
        peak_bytes=(10**8, 10**8, None),
    )


def report(measured: Samples | None = None, **changes: Any) -> Report:
    """A whole report; keyword arguments replace pieces of what was gathered, or of its facts."""
    first = measured or samples()
    named = {name: changes.pop(name) for name in list(changes) if name in Facts.fields_}
    pieces: dict[str, Any] = {
        "facts": facts(**named),
        "complete": True,
        "before": snapshot(50.0),
        "after": snapshot(58.0, at_s=first.duration_s),
        "cells": [("predict", {"threads": "1"}, first)],
        "cold_start": (cold_start(),),
        "memory": (
            MemoryPhase(
                phase="load",
                rss_bytes=80 << 20,
                anonymous_bytes=60 << 20,
                swap_bytes=0,
                peak_bytes=120 << 20,
                reason=None,
            ),
            MemoryPhase(
                phase="measuring",
                rss_bytes=90 << 20,
                anonymous_bytes=66 << 20,
                swap_bytes=0,
                peak_bytes=95 << 20,
                reason=None,
            ),
        ),
        "operators": (operators(),),
        "trace": trace(first.duration_s),
        "notes": (),
        "absent": {},
    }
    return assemble(Gathered(**{**pieces, **changes}))
