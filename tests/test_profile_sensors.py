"""F1, F6: sensor trees of six machines read right; what is absent, negative or constant is said and never 0."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from edgekit.errors import InputError
from edgekit.profiling import board_sensors as board
from edgekit.profiling import linux_sensors as linux
from edgekit.profiling.environment import board_name, cpu_name, installed_versions, os_name, this_environment
from edgekit.profiling.readings import Fact, Reading, known, unknown
from edgekit.profiling.sampler import Measured, Sampler, channel, doubt_about, trace_of
from edgekit.profiling.sensors import (
    LocalSensors,
    feed,
    primary_clock,
    primary_temperature,
    throttled_now,
    total_power,
)

TREES = Path(__file__).parent / "fixtures" / "sensors"
Machine = tuple[Path, Callable[[Sequence[str]], "str | None"]]


def machine(name: str, folder: Path) -> Machine:
    """Lay out a tree file below `folder`; the second value answers the commands recorded in it."""
    outputs: dict[str, str] = {}
    command = ""
    for line in (TREES / f"{name}.tree").read_text().splitlines():
        if line.startswith("$ "):
            command = line[2:]
            outputs[command] = ""
        elif line.startswith("| "):
            outputs[command] += line[2:] + "\n"
        elif line and not line.startswith("#"):
            path, _, value = line.partition(" = ")
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(value.replace("\\n", "\n") + "\n")
    return folder, lambda words: outputs.get(" ".join(words))


def read_all(name: str, folder: Path) -> dict[str, Measured]:
    root, command = machine(name, folder)
    with LocalSensors(root, command) as sensors:
        return {item.name: item for item in sensors()}


def values(measured: dict[str, Measured]) -> dict[str, float]:
    return {name: item.value for name, item in measured.items() if item.value is not None}


def test_pi4(tmp_path: Path) -> None:
    measured = read_all("pi4", tmp_path)
    assert values(measured) == {
        "clock.policy0": 1500.0,
        "temp.cpu": 48.686,
        "ram.available": 3072.0,
        "swap.used": 20.0,
        "throttled": 0.0,
    }
    assert measured["power"].value is None
    assert "no power sensor" in (measured["power"].reason or "")
    assert linux.governor(tmp_path).text == "ondemand"
    assert linux.clock_limit_mhz(tmp_path).value == 1800.0
    assert board_name(tmp_path) == "Raspberry Pi 4 Model B Rev 1.4"
    assert cpu_name(tmp_path) == "4 x Cortex-A72"
    assert os_name(tmp_path) == "Debian GNU/Linux 12 (bookworm)"
    throttle = board.pi_throttle(tmp_path, None)
    assert throttle.now == ()
    assert throttle.since_boot == ("under-voltage", "throttled")


def test_pi5(tmp_path: Path) -> None:
    measured = read_all("pi5", tmp_path)
    known_values = values(measured)
    # Volt times ampere of the twelve rails that have both, summed with awk over the recorded lines.
    assert known_values["power.pmic"] == pytest.approx(7.23982, abs=0.00001)
    assert known_values["power.VDD_CORE"] == pytest.approx(6.22421 * 0.861733)
    assert known_values["temp.cpu"] == 80.95
    assert known_values["clock.policy0"] == 2400.0
    assert known_values["fan.0"] == 8112.0
    assert known_values["throttled"] == 1.0
    throttle = board.pi_throttle(tmp_path, None)
    assert throttle.now == ("soft temperature limit",)
    assert throttle.since_boot == ("soft temperature limit",)
    assert total_power(list(measured.values()))[1] == "pmic"
    assert cpu_name(tmp_path) == "4 x Cortex-A76"


def test_orin_nano(tmp_path: Path) -> None:
    measured = read_all("orin-nano", tmp_path)
    known_values = values(measured)
    assert known_values["power.VDD_IN"] == pytest.approx(6.654464)
    assert known_values["power.VDD_CPU_GPU_CV"] == pytest.approx(0.830496)
    assert known_values["power.VDD_SOC"] == pytest.approx(1.62048)
    assert known_values["gpu.clock"] == 305.0
    assert known_values["gpu.load"] == 42.3
    assert known_values["temp.tj"] == 48.843
    assert measured["temp.cv0"].value is None
    assert "-256" in (measured["temp.cv0"].reason or "")
    assert "power.sum of shunt voltages" not in measured
    assert primary_clock(list(measured.values())) == measured["clock.policy4"]
    assert primary_temperature(list(measured.values())) == measured["temp.cpu"]
    assert total_power(list(measured.values())) == (pytest.approx(6.654464), "VDD_IN")
    root, command = machine("orin-nano", tmp_path)
    environment = this_environment(root, command)
    assert environment.power_mode.text == "15W (0)"
    assert environment.cpu == "6 x Cortex-A78AE"


def test_orin_nano_tegrastats(tmp_path: Path) -> None:
    _, command = machine("orin-nano", tmp_path)
    seen = {item.name: item.value for item in board.parse_tegrastats(command(("tegrastats",)) or "")}
    assert seen["ram.used"] == 2461.0
    assert seen["swap.used"] == 1243.0
    assert [seen[f"core{i}.load"] for i in range(6)] == [19, 14, 22, 8, 15, 17]
    assert seen["clock.cpu5"] == 729.0
    assert (seen["gpu.load"], seen["emc.load"]) == (0.0, 4.0)
    assert (seen["temp.cpu"], seen["temp.tj"]) == (46.531, 48.843)
    assert (seen["power.VDD_IN"], seen["power.VDD_SOC"]) == (5.704, 1.624)


def test_agx_orin(tmp_path: Path) -> None:
    measured = read_all("agx-orin", tmp_path)
    root, command = machine("agx-orin", tmp_path)
    assert measured["temp.gpu"].value is None  # reads -256
    watts, rails = total_power(list(measured.values()))
    assert rails == "VDD_GPU_SOC+VDD_CPU_CV+VIN_SYS_5V0"
    assert watts == pytest.approx(2.412 + 1.603 + 4.705, abs=0.001)
    assert "power.NC" not in measured
    assert board.parse_nvpmodel(command(("nvpmodel", "-q")) or "").text == "MAXN (0)"
    seen = {item.name: item.value for item in board.parse_tegrastats(command(("tegrastats",)) or "")}
    assert seen["power.VDD_GPU_SOC"] == 2.412
    assert seen["power.VIN_SYS_5V0"] == 4.707
    assert seen["clock.cpu3"] == 2201.0
    assert root == tmp_path


def test_phone(tmp_path: Path) -> None:
    measured = read_all("phone", tmp_path)
    assert measured["power.battery"].value == pytest.approx(3.964 * 0.512)
    assert total_power(list(measured.values()))[1] == "battery"
    assert linux.governor(tmp_path).text == "schedutil+walt"
    assert feed(tmp_path).text == "Discharging, 71 %"
    _, command = machine("phone", tmp_path)
    temperatures, throttle = board.parse_thermalservice(command(("dumpsys", "thermalservice")) or "")
    named = {item.name: item for item in temperatures}
    assert named["temp.cpu.AP"].value == 25.6
    assert named["temp.battery.BAT"].value == 23.8
    assert named["temp.usb.USB"].value is None  # 0.0 is a sensor that is not fitted
    assert primary_temperature(temperatures) == named["temp.cpu.AP"]
    assert throttle.now == ()
    battery, fed = board.parse_battery(command(("dumpsys", "battery")) or "")
    assert {item.name: item.value for item in battery} == {"temp.battery": 27.4, "battery.level": 100.0}
    assert fed.text == "powered by USB, 100 %"


def test_server(tmp_path: Path) -> None:
    root, command = machine("server", tmp_path)
    with LocalSensors(root, command) as sensors:
        (root / "sys/class/powercap/intel-rapl:0/energy_uj").write_text("4000000\n")
        measured = {item.name: item for item in sensors()}
    assert measured["temp.coretemp"].value == 41.0
    assert measured["temp.acpitz"].value == 27.8
    assert measured["temp.acpitz#2"].value == 29.8
    assert primary_temperature(list(measured.values())) == measured["temp.coretemp"]
    assert measured["clock.cpuinfo"].value == 3200.011
    watts = measured["power.package-0"].value
    assert watts is not None
    assert watts > 0  # the counter wrapped: it is lower than before, and the power is not negative
    assert measured["throttled"].value is None
    assert cpu_name(root) == "Intel(R) Xeon(R) E-2388G CPU @ 3.20GHz"
    assert board_name(root) == "ExampleVendor PowerEdge R000"


def test_rapl_power_is_energy_by_time_also_over_a_wrap() -> None:
    (plain,) = linux.rapl_power({"package-0": (10.0, 100.0)}, {"package-0": (25.0, 100.0)}, 2.0)
    (wrapped,) = linux.rapl_power({"package-0": (95.0, 100.0)}, {"package-0": (5.0, 100.0)}, 2.0)
    assert (plain.value, wrapped.value) == (7.5, 5.0)


def test_nothing_at_all_is_null_with_a_reason_everywhere(tmp_path: Path) -> None:
    with LocalSensors(tmp_path, lambda _: None) as sensors:
        measured = sensors()
    assert {item.name.split(".")[0] for item in measured} >= {"clock", "temp", "power", "ram", "throttled"}
    assert all(item.value is None and item.reason for item in measured)
    assert linux.governor(tmp_path).text is None
    assert linux.ram_bytes(tmp_path).value is None
    assert feed(tmp_path).text is None


def test_a_file_that_may_not_be_read_says_so(tmp_path: Path) -> None:
    machine("server", tmp_path)
    path = tmp_path / "sys/class/powercap/intel-rapl:0/energy_uj"
    path.unlink()
    path.mkdir()  # reads fail for root as well
    assert linux.rapl_energy(tmp_path) == {}
    assert "cannot be read" in linux.rapl_reason(tmp_path)


@pytest.mark.parametrize(
    ("text", "now", "since_boot"),
    [
        ("throttled=0x0", (), ()),
        ("throttled=0x50005\n", ("under-voltage", "throttled"), ("under-voltage", "throttled")),
        (
            "e000e",
            ("ARM frequency capped", "throttled", "soft temperature limit"),
        )
        * 1
        + (("ARM frequency capped", "throttled", "soft temperature limit"),),
        ("0", (), ()),
    ],
)
def test_pi_throttle_bits(text: str, now: tuple[str, ...], since_boot: tuple[str, ...]) -> None:
    throttle = board.parse_throttled(text, "a source")
    assert (throttle.now, throttle.since_boot) == (now, since_boot)


@pytest.mark.parametrize("text", ["VCHI initialization failed", "", "throttled=", "throttled=0xzz"])
def test_a_firmware_that_does_not_answer_is_unknown_and_not_fine(text: str) -> None:
    throttle = board.parse_throttled(text, "vcgencmd get_throttled")
    assert throttle.now is None
    assert throttle.reason
    assert throttled_now(throttle).value is None


def test_vcgencmd_is_asked_where_the_driver_has_no_file(tmp_path: Path) -> None:
    throttle = board.pi_throttle(tmp_path, "throttled=0x4\n")
    assert throttle.now == ("throttled",)
    assert board.pi_throttle(tmp_path, None).reason


def test_tegrastats_of_jetpack_7_and_of_a_plain_user() -> None:
    """Three-part values and no SWAP (JetPack 7); without root no clocks; a core that is off."""
    line = (
        "RAM 1224/15368MB (lfb 8x4MB) CPU [1%,0%@729,off] EMC_FREQ 0% GR3D_FREQ 88% NVDEC0 off "
        "cpu@45.812C/45.812C tj@46.0C CV0@-256C VDD_IN 3582mW/3582mW/3582mW NC 0mW/0mW"
    )
    seen = {item.name: item for item in board.parse_tegrastats(line)}
    assert seen["power.VDD_IN"].value == 3.582
    assert seen["temp.cpu"].value == 45.812
    assert seen["temp.CV0"].value is None
    assert seen["core2.load"].value is None
    assert seen["clock.cpu0"].value is None
    assert "swap.used" not in seen
    assert "power.NC" not in seen
    assert board.parse_tegrastats("") == []


def test_thor_names_no_gpu_load() -> None:
    """A line of L4T 38.4 (lesomnus/tegra-exporter's tests): GR3D_FREQ without a percentage."""
    seen = {item.name: item for item in board.parse_tegrastats("EMC_FREQ 0%@665 GR3D_FREQ @[0,0,0] VDD_GPU 0mW/0mW")}
    assert seen["gpu.load"].value is None
    assert seen["power.VDD_GPU"].value == 0.0  # the board's own word, not ours


def test_android_status_and_virtual_sensors() -> None:
    text = (
        "Thermal Status: 3\nCached temperatures:\n\tTemperature{mValue=99.0, mType=0, mName=BIG, mStatus=3}\n"
        "Current temperatures from HAL:\n\tTemperature{mValue=28.5, mType=0, mName=BIG, mStatus=0}\n"
        "\tTemperature{mValue=-5700.0, mType=6, mName=vbat, mStatus=0}\n"
        "\tTemperature{mValue=NaN, mType=1, mName=GPU, mStatus=0}\nCurrent cooling devices from HAL:\n"
    )
    measured, throttle = board.parse_thermalservice(text)
    assert [(item.name, item.value) for item in measured] == [("temp.cpu.BIG", 28.5), ("temp.gpu.GPU", None)]
    assert throttle.now == ("thermal status severe",)
    assert board.parse_thermalservice("Can't find service: thermalservice")[1].now is None


def test_a_makers_battery_log_does_not_count() -> None:
    text = "Current Battery Service state:\n  AC powered: false\n  level: 75\n  scale: 100\n  temperature: 357\n" + (
        "[EventLogBuffer]\n  temperature: 345\n  level: 72\n"
    )
    measured, fed = board.parse_battery(text)
    assert {item.name: item.value for item in measured} == {"temp.battery": 35.7, "battery.level": 75.0}
    assert fed.text == "on battery, 75 %"
    assert board.parse_battery("")[1].text is None


def test_a_lying_sensor_is_doubted_or_null() -> None:
    assert linux.power("rail", -3.0, "", "x").value is None
    assert "less than nothing" in (linux.power("rail", -3.0, "", "x").reason or "")
    assert linux.temperature("cpu", 999.0, "", "x").value is None
    assert "constant" in (doubt_about("C", [50.0] * 20) or "")
    assert doubt_about("C", [50.0] * 19 + [50.1]) is None
    assert doubt_about("MHz", [1800.0] * 100) is None  # a pinned clock is what one wants
    assert "2 of 4" in (doubt_about("C", [50.0, None, 51.0, None]) or "")


def test_load_by_others_is_what_is_left_of_the_busy_time(tmp_path: Path) -> None:
    stat = tmp_path / "proc/stat"
    stat.parent.mkdir()
    stat.write_text("cpu  1000 0 500 9000 100 0 0 0 0 0\ncpu0 1 2 3\n")
    before = linux.busy_s(tmp_path, 100.0)
    stat.write_text("cpu  1400 0 600 9500 100 0 0 0 0 0\n")
    after = linux.busy_s(tmp_path, 100.0)
    assert (before, after) == (15.0, 20.0)
    assert linux.load_by_others(before, after, own_s=3.0, wall_s=4.0).value == pytest.approx(0.5)
    assert linux.load_by_others(None, after, own_s=3.0, wall_s=4.0).value is None


def test_readings_have_a_value_or_a_reason() -> None:
    for wrong in ({"value": None, "reason": None}, {"value": 1.0, "reason": "why"}, {"value": None, "reason": ""}):
        with pytest.raises(InputError):
            Reading(**wrong)
    with pytest.raises(InputError):
        known(float("nan"))
    with pytest.raises(InputError):
        Fact(text=None, reason=None)
    assert unknown("absent").value is None


def test_the_sampler_keeps_its_rate_and_reads_at_both_ends() -> None:
    turn = iter(range(1000))

    def sensors() -> list[Measured]:
        return [Measured("temp.cpu", "C", 40.0 + next(turn), None, "test")]

    told: list[float] = []
    with Sampler(sensors, rate_hz=50.0, on_reading=lambda at, _: told.append(at)) as sampler:
        time.sleep(0.5)
    trace = sampler.trace()
    assert 15 <= len(trace.time_s) <= 29
    assert list(trace.time_s) == sorted(trace.time_s) == told
    cpu = channel(trace, "temp.cpu")
    assert cpu is not None
    assert cpu.values[0] == 40.0
    assert cpu.reason is None


def test_a_sensor_that_goes_away_is_null_from_then_on() -> None:
    there = [Measured("temp.cpu", "C", 40.0, None, "x")]
    trace = trace_of([(0.0, there), (1.0, []), (2.0, there)], rate_hz=1.0, began_s=0.0, missed=0)
    assert trace.channels[0].values == (40.0, None, 40.0)
    assert trace.channels[0].reason


@pytest.mark.parametrize("rate_hz", [0.0, -1.0, 1000.0])
def test_a_rate_that_cannot_be_kept_is_refused(rate_hz: float) -> None:
    with pytest.raises(InputError):
        Sampler(lambda: [], rate_hz=rate_hz)


def test_environment_ids_differ_where_the_machines_do(tmp_path: Path) -> None:
    ids = []
    for name in ("pi4", "pi5", "orin-nano", "agx-orin", "server"):
        root, command = machine(name, tmp_path / name)
        ids.append(this_environment(root, command).id)
        assert ids[-1] == this_environment(root, command).id
    assert len(set(ids)) == 5
    (tmp_path / "pi5/sys/devices/system/cpu/cpufreq/policy0/scaling_governor").write_text("powersave\n")
    assert this_environment(*machine_again("pi5", tmp_path / "pi5")).id != ids[1]


def machine_again(name: str, folder: Path) -> Machine:
    return folder, lambda _: None


def test_versions_come_from_folder_names(tmp_path: Path) -> None:
    for entry in ("onnxruntime-1.32.0.dist-info", "ai_edge_litert-2.3.0.dist-info", "numpy", "onnx-1.0.dist-info"):
        os.mkdir(tmp_path / entry)
    found = installed_versions(folders=[str(tmp_path), str(tmp_path / "absent")])
    assert found == {"onnxruntime": "1.32.0", "ai-edge-litert": "2.3.0"}
