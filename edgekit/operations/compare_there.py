"""`compare --on DEVICE`: latency and memory come from the device, through the profile that it makes of itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from edgekit.bundle import open_bundle
from edgekit.devices import read_facts
from edgekit.errors import TargetError
from edgekit.operations.compare_latency import latencies
from edgekit.operations.compare_records import Latency
from edgekit.operations.deploy import find_kind, wanted
from edgekit.operations.devices import opened
from edgekit.operations.package import Note
from edgekit.operations.profile_there import measure_bundles
from edgekit.operations.remote import refuse_without_python
from edgekit.profiling.environment import UNKNOWN_BOARD
from edgekit.profiling.report import Environment
from edgekit.profiling.workload import Workload
from edgekit.targets import Target, check_fit

SHORT = {"min_runs": 1, "min_s": 0.0, "operators": False}
"""Of each model alone only its cold start counts."""


class Measured(NamedTuple):
    """What a device measured: latency and peak memory by model, and which machine it is."""

    latency: dict[str, Latency]
    peak_bytes: dict[str, int | None]
    board: str
    environment: str


def device_kind(name: str, target: str | None, note: Note) -> Target:
    """The target of a device that edgekit runs on. Raises TransportError, TargetError."""
    with opened(name) as device:
        facts = read_facts(device)
        refuse_without_python(name, facts)
        return find_kind(name, facts, target, note)


def check_all_fit(bundles: Mapping[str, Path], name: str, kind: Target) -> None:
    """Raise TargetError that names the first bundle which the device cannot take."""
    for given, path in bundles.items():
        with open_bundle(path) as bundle:
            manifest = bundle.manifest
        try:
            check_fit(manifest, kind)
        except TargetError as error:
            raise TargetError(f"{given} does not fit {name}: {error.message}", hint=error.hint) from None


def measure_there(
    bundles: Mapping[str, Path],
    workload: Workload,
    runs: int,
    seconds: float,
    name: str,
    kind: Target,
    *,
    wheels: Sequence[Path],
    offline: Path | None,
    note: Note,
) -> Measured:
    """Latency of all in turn, then a fresh process of each for its memory. Raises as measure_bundles does.

    wheels, offline: for the layer that is brought (see `deploy`).
    """
    changes = {"min_runs": runs, "min_s": seconds, "cold_starts": 0, "operators": False}
    memory = {**SHORT, "cold_starts": 1}
    asked = wanted(
        wheels=tuple(map(str, wheels)), offline=None if offline is None else str(offline), allow_downgrade=True
    )
    whole, alone = measure_bundles(
        bundles, name, kind.name, workload=workload, changes=changes, memory=memory, asked=asked, note=note
    )
    peaks = {
        given: report.cold_start[0].peak_bytes[0] if report.cold_start else None for given, report in alone.items()
    }
    return Measured(latencies(whole, bundles), peaks, machine_name(whole.environment), whole.environment.id)


def machine_name(environment: Environment) -> str:
    """The board, or the processor where no board is known."""
    return environment.cpu if environment.board == UNKNOWN_BOARD else environment.board
