"""All sensors of this machine in one reading, and which of them speak for its temperature, clock and power."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from edgekit.profiling import board_sensors as board
from edgekit.profiling import linux_sensors as linux
from edgekit.profiling.readings import Fact, Reading, Throttle, known, unknown
from edgekit.profiling.sampler import Measured
from edgekit.records import Record

Command = Callable[[Sequence[str]], "str | None"]
"""Runs a command and gives its output, null where it is absent or fails."""

TEMPERATURES = ("cpu", "tj", "x86_pkg_temp", "coretemp", "k10temp", "zenpower", "bcm2835_thermal", "soc")
"""Names that mean the processor, the most telling first; else the hottest zone speaks."""

POWER_SETS = (
    ("VDD_IN",),
    ("POM_5V_IN",),
    ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"),
    ("pmic",),
)
"""Rails that together are the whole board: Orin Nano and NX, Nano, AGX Orin (its three inputs), Pi 5."""


def run_command(command: Sequence[str]) -> str | None:
    """The output of a short command of this machine."""
    if shutil.which(command[0]) is None:
        return None
    try:
        done = subprocess.run(command, capture_output=True, timeout=5.0, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else None


class LocalSensors:
    """Reads every sensor below `root` when called; a Jetson without rails in /sys is read through tegrastats.

    A class because RAPL's counters need the reading before, and tegrastats is a process that must end.
    """

    def __init__(self, root: Path = Path("/"), command: Command = run_command) -> None:
        self._root, self._command = root, command
        self._rapl: Mapping[str, tuple[float, float]] = linux.rapl_energy(root)
        self._read_at_s = time.perf_counter()
        self._has_pmic = bool(board.parse_pmic(command(("vcgencmd", "pmic_read_adc")) or ""))
        needs_stream = root == Path("/") and not board.ina3221_rails(root) and shutil.which("tegrastats")
        self._stream = TegraStream() if needs_stream else None

    def __call__(self) -> list[Measured]:
        root = self._root
        measured = linux.cpu_clocks(root) + linux.thermal_zones(root) + linux.hwmon_temperatures(root)
        measured += board.jetson_gpu(root) + self._power() + linux.memory(root) + linux.fans(root)
        measured.append(throttled_now(self.throttle()))
        if self._stream is not None:
            measured += board.parse_tegrastats(self._stream.latest())
        for prefix, unit, reason in _MUST:
            if not any(item.name.startswith(prefix) for item in measured):
                why = linux.rapl_reason(root) if prefix == "power" else reason
                measured.append(Measured(prefix, unit, None, why, "none"))
        return _first_of_each_name(measured)

    def _power(self) -> list[Measured]:
        root, now_s = self._root, time.perf_counter()
        measured = board.ina3221_rails(root) + linux.battery_power(root)
        if self._has_pmic:
            measured += board.parse_pmic(self._command(("vcgencmd", "pmic_read_adc")) or "")
        counters = linux.rapl_energy(root)
        if counters:
            measured += linux.rapl_power(self._rapl, counters, now_s - self._read_at_s)
            self._rapl, self._read_at_s = counters, now_s
        return measured

    def throttle(self) -> Throttle:
        """What the firmware says of holding back, now and since boot."""
        from_file = board.pi_throttle(self._root, None)
        if from_file.now is not None:
            return from_file
        return board.pi_throttle(self._root, self._command(("vcgencmd", "get_throttled")))

    def close(self) -> None:
        """End the process that was started, if any; a second call does nothing."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def __enter__(self) -> LocalSensors:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


_MUST = (
    ("clock", "MHz", "no clock is told"),
    ("temp", "C", "no thermal zone and no processor sensor in /sys"),
    ("power", "W", ""),
)


class TegraStream:
    """A running tegrastats whose newest line can be had at any time."""

    def __init__(self, command: Sequence[str] = ("tegrastats", "--interval", "500")) -> None:
        self._line = ""
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self._thread = threading.Thread(target=self._follow, name="edgekit-tegrastats", daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        for line in self._process.stdout or ():
            self._line = line.decode("utf-8", "replace")

    def latest(self) -> str:
        """The newest line, empty before the first."""
        return self._line

    def close(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.wait()
        self._thread.join()
        if self._process.stdout is not None:
            self._process.stdout.close()


def throttled_now(throttle: Throttle) -> Measured:
    """A channel of the board's own word: 1 while it holds back, 0 while it says that it does not."""
    if throttle.now is None:
        return Measured("throttled", "flag", None, throttle.reason, "none")
    return Measured("throttled", "flag", 1.0 if throttle.now else 0.0, None, throttle.source or "")


def _first_of_each_name(measured: Sequence[Measured]) -> list[Measured]:
    named: dict[str, Measured] = {}
    for item in measured:
        named.setdefault(item.name, item)
    return list(named.values())


def primary_temperature(measured: Sequence[Measured]) -> Measured | None:
    """The sensor that speaks for the processor: the most telling name, else the hottest."""
    zones = [item for item in measured if item.name.startswith("temp.") and item.value is not None]
    for name in TEMPERATURES:
        for item in zones:
            if item.name.lower().removeprefix("temp.").split(".")[0] == name:
                return item
    return max(zones, key=lambda item: item.value or 0.0, default=None)


def primary_clock(measured: Sequence[Measured]) -> Measured | None:
    """The fastest clock domain at this moment."""
    clocks = [item for item in measured if item.name.startswith("clock.") and item.value is not None]
    return max(clocks, key=lambda item: item.value or 0.0, default=None)


def total_power(measured: Sequence[Measured]) -> tuple[float | None, str]:
    """The power of the whole board in watts and the rails it is the sum of; null with the reason."""
    watts = {item.name.removeprefix("power."): item.value for item in measured if item.name.startswith("power.")}
    for rails in POWER_SETS:
        values = [watts.get(rail) for rail in rails]
        if all(value is not None for value in values):
            return sum(value for value in values if value is not None), "+".join(rails)
    packages = {name: value for name, value in watts.items() if name.startswith("package") and value is not None}
    if packages:
        return sum(packages.values()), "RAPL " + "+".join(packages)
    for item in measured:
        if item.name.startswith("power.") and item.value is not None and "power_supply" in item.source:
            return item.value, "battery"
    reasons = [item.reason for item in measured if item.name.startswith("power") and item.reason]
    return None, reasons[0] if reasons else "no power sensor that covers the whole board"


class Snapshot(Record):
    """What is noted before and after measuring; at_s on the machine's monotonic clock, own_s of processor time."""

    temperature_c: Reading
    clock_mhz: Reading
    throttle: Throttle
    busy_s: float | None
    at_s: float
    own_s: float


def snapshot(sensors: LocalSensors, root: Path = Path("/")) -> Snapshot:
    """The conditions at this moment."""
    measured = sensors()
    return Snapshot(
        temperature_c=_reading(primary_temperature(measured), measured, "temp"),
        clock_mhz=_reading(primary_clock(measured), measured, "clock"),
        throttle=sensors.throttle(),
        busy_s=linux.busy_s(root, float(os.sysconf("SC_CLK_TCK"))),
        at_s=time.perf_counter(),
        own_s=_own_s(),
    )


def _own_s() -> float:
    """Processor time of this process and of the children that it waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _reading(chosen: Measured | None, measured: Sequence[Measured], prefix: str) -> Reading:
    if chosen is not None and chosen.value is not None:
        return known(chosen.value)
    reasons = [item.reason for item in measured if item.name.startswith(prefix) and item.reason]
    return unknown(reasons[0] if reasons else "no such sensor")


def feed(root: Path) -> Fact:
    """What feeds the machine: a battery's state, or null where there is none."""
    for supply in sorted((root / "sys/class/power_supply").glob("*")):
        base = str(supply.relative_to(root))
        if linux.read(root, f"{base}/type")[0] == "Battery":
            status, capacity = linux.read(root, f"{base}/status")[0], linux.read(root, f"{base}/capacity")[0]
            return Fact(text=f"{status or 'unknown state'}, {capacity or '?'} %", reason=None)
    return Fact(text=None, reason="no battery in /sys/class/power_supply")
