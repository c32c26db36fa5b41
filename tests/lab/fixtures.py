"""Fixtures for tests that need devices.

A conftest.py takes them over with `from .fixtures import *` or, from another folder, with
`from lab.fixtures import *`. Markers follow from the fixtures a test asks for: `lab` for any
device, `lab_emulated` for a foreign architecture, `lab_vm` for the whole machine, which runs
only by its own command, `pytest -m lab_vm`.

Without root, namespaces or a tool, a test is skipped with what is missing; with EDGELAB_REQUIRE=1
in the environment it fails instead.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from . import host, phone
from .adb import AdbServer
from .device import Device
from .fake_adbd import Behaviour, FakeAdbd
from .lab import Lab
from .vm import Vm

__all__ = [
    "adb_server",
    "amd64_device",
    "android",
    "android_arm64",
    "fake_adbd",
    "lab",
    "new_device",
    "new_phone",
    "pi3",
    "pi4",
    "pi5",
    "pytest_collection_modifyitems",
    "pytest_configure",
    "vm",
    "zero2w_32",
]

MARKERS = {
    "lab": "needs virtual devices: root, namespaces, mmdebstrap",
    "lab_emulated": "needs devices of a foreign architecture: qemu-user and binfmt_misc",
    "lab_vm": "needs a whole emulated machine; slow, only by `pytest -m lab_vm`",
}
_EMULATED = {"pi3", "pi4", "pi5", "zero2w_32", "android_arm64"}
_LAB_KEY = pytest.StashKey[Lab]()


def pytest_configure(config: pytest.Config) -> None:
    for name, meaning in MARKERS.items():
        config.addinivalue_line("markers", f"{name}: {meaning}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        names = set(getattr(item, "fixturenames", ()))
        if names & {"lab", "adb_server"}:
            item.add_marker("lab")
        if names & _EMULATED:
            item.add_marker("lab_emulated")
        if "vm" in names:
            item.add_marker("lab_vm")
    if "lab_vm" in str(config.option.markexpr):
        return
    slow = [item for item in items if item.get_closest_marker("lab_vm")]
    if slow:
        items[:] = [item for item in items if item not in slow]
        config.hook.pytest_deselected(items=slow)


def give_up(missing: list[str]) -> NoReturn:
    """Skip the test for want of something, or fail it where the lab is required."""
    reason = f"the lab cannot run here: {'; '.join(missing)}"
    if os.environ.get("EDGELAB_REQUIRE") == "1":
        pytest.fail(f"{reason} (EDGELAB_REQUIRE=1)", pytrace=False)
    pytest.skip(reason)


def require(missing: list[str]) -> None:
    if missing:
        give_up(missing)


@pytest.fixture(scope="session")
def lab(pytestconfig: pytest.Config) -> Lab:
    """The session's lab; every folder that takes these fixtures over shares the one."""
    require(host.missing_for_devices())
    if _LAB_KEY not in pytestconfig.stash:
        made = pytestconfig.stash[_LAB_KEY] = Lab()
        pytestconfig.add_cleanup(made.close)
    return pytestconfig.stash[_LAB_KEY]


@pytest.fixture
def new_device(lab: Lab) -> Iterator[Callable[..., Device]]:
    """`lab.device`, for devices that end with the test."""
    with contextlib.ExitStack() as stack:

        def make(arch: str = "amd64", **options: object) -> Device:
            if arch != host.machine_arch():
                require(host.missing_for_emulation())
            device = lab.device(arch, **options)  # type: ignore[arg-type]
            stack.callback(lab.remove, device)
            return device

        yield make


@pytest.fixture
def amd64_device(new_device: Callable[..., Device]) -> Device:
    return new_device("amd64")


@pytest.fixture
def pi5(new_device: Callable[..., Device]) -> Device:
    return new_device("arm64", board="pi5")


@pytest.fixture
def pi4(new_device: Callable[..., Device]) -> Device:
    return new_device("arm64", board="pi4")


@pytest.fixture
def pi3(new_device: Callable[..., Device]) -> Device:
    return new_device("arm64", board="pi3")


@pytest.fixture
def zero2w_32(new_device: Callable[..., Device]) -> Device:
    """A Raspberry Pi Zero 2 W with the 32-bit system."""
    return new_device("armhf", board="zero2w")


@pytest.fixture
def adb_server(lab: Lab) -> AdbServer:
    """The session's adb server, of this machine's own adb."""
    require(host.missing_for_adb())
    return lab.adb_server()


@pytest.fixture
def android(lab: Lab, adb_server: AdbServer) -> Iterator[Device]:
    """A device with the real adbd, of this machine's architecture."""
    device = lab.android("amd64")
    yield device
    lab.remove(device)


@pytest.fixture
def android_arm64(lab: Lab, adb_server: AdbServer) -> Iterator[Device]:
    require(host.missing_for_emulation())
    device = lab.android("arm64", cpu="cortex-a76", board="pi5")
    yield device
    lab.remove(device)


@pytest.fixture
def new_phone(lab: Lab) -> Iterator[Callable[..., Device]]:
    """Makes devices with the real adbd on which `phone.RUNNER` runs: `new_phone("arm64", client="34")`."""
    with contextlib.ExitStack() as stack:

        def make(arch: str = "amd64", **options: object) -> Device:
            if arch != host.machine_arch():
                require(host.missing_for_emulation())
                options = {"cpu": "cortex-a76", "board": "pi5", **options}
            device = lab.android(arch, runner=True, **options)  # type: ignore[arg-type]
            stack.callback(lab.remove, device)
            phone.furnish(device)
            return device

        yield make


@pytest.fixture
def fake_adbd(tmp_path: Path) -> Iterator[Callable[..., FakeAdbd]]:
    """Makes stand-ins: `fake_adbd(unauthorized=True)`; their files are under `.root`."""
    with contextlib.ExitStack() as stack:

        def make(**behaviour: object) -> FakeAdbd:
            root = tmp_path / "android"
            root.mkdir(exist_ok=True)
            chosen = Behaviour(**behaviour)  # type: ignore[arg-type]
            return stack.enter_context(FakeAdbd(root, chosen))

        yield make


@pytest.fixture
def vm() -> Iterator[Vm]:
    """A whole machine with systemd and 512 MB, switched on."""
    require(host.missing_for_vm())
    with Vm() as machine:
        machine.boot()
        yield machine
