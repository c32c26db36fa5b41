"""The same deployment over a real sshd and adbd: facts, one command, resume, real faults at every boundary."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from deploying import (
    APP,
    HostKilled,
    checks,
    dead_owner,
    make_bundle,
    make_request,
    what_runs,
)
from lab.adb import AdbServer
from lab.device import Device as LabDevice
from lab.fixtures import adb_server, amd64_device, android, fake_adbd, lab, new_device  # noqa: F401

from edgekit.container import read_manifest
from edgekit.devices import (
    Checks,
    Device,
    Outcome,
    Payload,
    Request,
    build_layer,
    connect,
    deploy,
    find_needs,
    read_facts,
    read_payload,
    rollback,
    status,
)
from edgekit.devices.transports import Completed
from edgekit.errors import DeployError, EdgekitError, TransportError

pytestmark = pytest.mark.lab

FAULTS = 40
KINDS = ("host killed", "device killed", "power cut", "disk full", "card failed", "killed during", "link cut")
SSH_HOME, ADB_HOME = "home/pi/.local/share/edgekit", "data/local/tmp/edgekit"
CALL_LIMIT_S = 4.0


@pytest.fixture
def over_ssh(amd64_device: LabDevice, monkeypatch: pytest.MonkeyPatch) -> tuple[LabDevice, str, str]:  # noqa: F811
    monkeypatch.setenv("EDGEKIT_SSH_CONFIG", str(amd64_device.ssh_config))
    return amd64_device, f"ssh:{amd64_device.host}", SSH_HOME


@pytest.fixture
def over_adb(android: LabDevice, monkeypatch: pytest.MonkeyPatch) -> tuple[LabDevice, str, str]:  # noqa: F811
    for name, value in android.adb.environ.items():
        monkeypatch.setenv(name, value)
    return android, f"adb:{android.serial}", ADB_HOME


@pytest.fixture(params=["ssh", "adb"])
def reached(request: pytest.FixtureRequest) -> tuple[LabDevice, str, str]:
    found: tuple[LabDevice, str, str] = request.getfixturevalue(f"over_{request.param}")
    return found


def bring(address: str, payload: Payload, **changes: Any) -> Outcome:
    with connect(address) as device:
        # Dead when it ends: a power cut takes an unlocking back that was not synced, and these devices keep the
        # boot id of this machine, where a real one would have a new one.
        return deploy(device, make_request(payload, **changes), checks(), owner=dead_owner(0xB))


def test_one_deployment_from_nothing(reached: tuple[LabDevice, str, str], tmp_path: Path) -> None:
    """D5 over the wire: first everything, again nothing, one changed graph: that one; back and forth; status."""
    lab_device, address, home = reached
    one, two = make_bundle(tmp_path, "1.0"), make_bundle(tmp_path, "1.1")
    first = bring(address, one)
    again = bring(address, one)
    assert first.sent_bytes > 300_000
    assert (again.sent_bytes, again.switched) == (0, False)
    changed = bring(address, two)
    assert changed.sent_bytes < 4000
    assert what_runs(lab_device.root / home) == two.digest
    with connect(address) as device:
        rollback(device, APP, checks())
        assert [(s.app, s.version, s.problem) for s in status(device)] == [(APP, "1.0", None)]
    assert what_runs(lab_device.root / home) == one.digest


def test_facts_in_one_round_trip(reached: tuple[LabDevice, str, str]) -> None:
    _, address, home = reached
    with connect(address) as device:
        facts = read_facts(device)
    assert facts.root == f"/{home}"
    assert (facts.machine, facts.bits, facts.writable) == ("x86_64", 64, True)
    assert facts.ram_total_bytes < 5 << 30 and facts.cores >= 1 and facts.disk_free_bytes > 1 << 30  # noqa: PT018
    if address.startswith("ssh"):
        assert (facts.libc, facts.python[:4]) == ("glibc 2.36", "3.11")
    else:
        assert facts.abi == "x86_64"


def test_a_cut_link_resumes(over_ssh: tuple[LabDevice, str, str], tmp_path: Path) -> None:
    """A cut at 50 % sends at most the rest and one block again."""
    lab_device, address, home = over_ssh
    size = 24 << 20
    payload = make_bundle(tmp_path, "1.0", large=size)
    cut = threading.Event()

    def watch(progress: Any) -> None:
        if progress.sent_bytes > size // 2 and not cut.is_set():
            cut.set()
            lab_device.cut_link()

    with pytest.raises(EdgekitError), connect(address) as device:
        deploy(device, make_request(payload), checks(), owner=dead_owner(3), on_progress=watch)
    lab_device.restore_link()
    again = bring(address, payload)
    print(f"\ncut at 50 %: {again.sent_bytes} of {size} bytes sent again")
    # What the host had written and the device had not yet read: buffers of ssh, the kernel and the link.
    assert again.sent_bytes <= size // 2 + (4 << 20)
    assert what_runs(lab_device.root / home) == payload.digest


def test_a_torn_copy_is_continued_by_a_plain_user(over_ssh: tuple[LabDevice, str, str], tmp_path: Path) -> None:
    """D3: a cut can leave part of a read-only file in the transfer, and `pi` may not write to it as root could."""
    lab_device, address, home = over_ssh
    payload = make_bundle(tmp_path, "1.0", large=1 << 20)
    incoming = f"/{home}/incoming/{make_request(payload).record.id}/bundle/golden"
    half = "import random, sys; sys.stdout.buffer.write(random.Random(7).randbytes(1 << 20)[:1 << 19])"
    made = lab_device.run(f"mkdir -p {incoming} && cd {incoming} && python3 -c '{half}' > large.bin && chmod 444 *")
    assert made.returncode == 0, made.stderr
    outcome = bring(address, payload)
    assert outcome.sent_bytes < (1 << 19) + 10_000
    assert what_runs(lab_device.root / home) == payload.digest


def test_an_unknown_host_key_is_refused(over_ssh: tuple[LabDevice, str, str], tmp_path: Path) -> None:
    """D9: and nothing is written to known_hosts."""
    lab_device, address, _ = over_ssh
    known = lab_device.ssh_config.with_suffix(".known_hosts")
    trusted = known.read_bytes()
    known.write_bytes(b"")
    try:
        with pytest.raises(TransportError, match="ost key") as caught, connect(address) as device:
            read_facts(device)
        assert "compare the key" in str(caught.value)
        assert known.read_bytes() == b""
    finally:
        known.write_bytes(trusted)


def test_a_full_device_is_refused_before_the_first_byte(reached: tuple[LabDevice, str, str], tmp_path: Path) -> None:
    lab_device, address, home = reached
    payload = make_bundle(tmp_path, "1.0", large=3 << 20)
    lab_device.fill_disk(2 << 20)
    try:
        with pytest.raises(DeployError, match="no space: needs"):
            bring(address, payload)
        assert not list((lab_device.root / home / "incoming").glob("*/*"))
    finally:
        lab_device.free_disk()


class Striking:
    """A real transport, and a real fault at its nth call."""

    def __init__(self, inner: Any, lab_device: LabDevice, kind: str, at: int) -> None:
        self.inner, self.lab_device, self.kind, self.at = inner, lab_device, kind, at
        self.calls = 0
        self.timer: threading.Timer | None = None

    def run(self, argv: Sequence[str], *, stdin: bytes | None = None, timeout_s: float) -> Completed:
        self._strike()
        done: Completed = self.inner.run(argv, stdin=stdin, timeout_s=min(timeout_s, CALL_LIMIT_S))
        self._after()
        return done

    def put(self, source: Path, target: str, *, timeout_s: float, **how: Any) -> None:
        self._strike()
        self.inner.put(source, target, timeout_s=min(timeout_s, CALL_LIMIT_S), **how)
        self._after()

    def get(self, source: str, target: Path, *, timeout_s: float) -> None:
        self.inner.get(source, target, timeout_s=timeout_s)

    def _strike(self) -> None:
        self.calls += 1
        if self.calls > self.at and self.kind == "host killed":
            raise HostKilled
        if self.calls != self.at:
            return
        strikes: dict[str, Callable[[], object]] = {
            "device killed": self.lab_device.kill,
            "power cut": self.lab_device.power_cut,
            "disk full": lambda: self.lab_device.fill_disk(0),
            "card failed": self.lab_device.fail_card,
            "link cut": self.lab_device.cut_link,
        }
        if self.kind == "killed during":
            self.timer = threading.Timer(0.03, self.lab_device.kill)
            self.timer.start()
        elif self.kind in strikes:
            strikes[self.kind]()

    def _after(self) -> None:
        if self.calls == self.at and self.kind == "host killed":
            raise HostKilled


def repair(lab_device: LabDevice, kind: str) -> None:
    if kind == "card failed" and lab_device.is_running:
        lab_device.kill()
    if not lab_device.is_running:
        lab_device.boot()
    if kind == "link cut":
        lab_device.restore_link()
    if kind == "disk full":
        lab_device.free_disk()


def test_real_faults_at_every_boundary(reached: tuple[LabDevice, str, str], tmp_path: Path) -> None:
    """D1, D3: one fault per boundary, rotating; 0 of 40 per transport leave the device without a working release."""
    lab_device, address, home = reached
    old = make_bundle(tmp_path, "1.0")
    bring(address, old)
    allowed, tally = {old.digest}, dict.fromkeys(KINDS, 0)
    calls = 12
    for number in range(FAULTS):
        kind, at = KINDS[number % len(KINDS)], number % calls + 1
        target = make_bundle(tmp_path, f"2.{number}")
        allowed.add(target.digest)
        try:
            with connect(address) as device:
                striking = Striking(device.transport, lab_device, kind, at)
                request = make_request(target)
                deploy(device.replace(transport=striking), request, checks(), owner=dead_owner(number))
        except (EdgekitError, HostKilled):
            tally[kind] += 1
        if striking.timer:
            striking.timer.join()
        repair(lab_device, kind)
        assert what_runs(lab_device.root / home) in allowed, f"{kind} at call {at}"
        bring(address, target)
        assert what_runs(lab_device.root / home) == target.digest, f"{kind} at call {at}"
        allowed = {target.digest}
    print(f"\n{address}: 0 of {FAULTS} leave the device without a working release; deployments that failed: {tally}")
    assert sum(tally.values()) >= FAULTS * 0.7


def test_what_adb_says_of_an_unauthorized_phone(
    fake_adbd: Callable[..., Any],  # noqa: F811
    adb_server: AdbServer,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in adb_server.environ.items():
        monkeypatch.setenv(name, value)
    phone = fake_adbd(unauthorized=True)
    with pytest.raises(TransportError) as caught, connect(f"adb:{phone.serial}") as device:
        read_facts(device)
    assert "allow USB debugging" in str(caught.value) or "failed to" in str(caught.value)
    with pytest.raises(TransportError, match=r"adb 127\.0\.0\.1:1"), connect("adb:127.0.0.1:1") as device:
        read_facts(device)


def test_a_phone_that_vanishes_is_given_up_at_the_deadline_and_found_again(
    over_adb: tuple[LabDevice, str, str], tmp_path: Path
) -> None:
    """adb itself would hang for ever, and say `device` all the while; only connecting anew repairs that."""
    phone, address, home = over_adb
    source = tmp_path / "source"
    source.write_bytes(os.urandom(32 << 20))

    def cut(_: int) -> None:
        phone.cut_link()

    with connect(address) as device:
        with pytest.raises(TransportError, match=r"stalled|no answer within"):
            device.transport.put(
                source, "/data/local/tmp/x", start=0, size=32 << 20, append=False, timeout_s=4, on_bytes=cut
            )
        phone.restore_link()
        assert device.transport.run(["echo", "a  b"], timeout_s=20).stdout == b"a  b\n"
    assert not (phone.root / home).exists()


def test_a_phone_that_talks_nonsense_is_not_believed(
    fake_adbd: Callable[..., Any],  # noqa: F811
    adb_server: AdbServer,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    for name, value in adb_server.environ.items():
        monkeypatch.setenv(name, value)
    phone = fake_adbd(garbage=b"<html>edgekit:begin</html>")
    with pytest.raises(TransportError, match="gave no whole answer"), connect(f"adb:{phone.serial}") as device:
        read_facts(device)


@pytest.fixture(scope="module")
def tridigit(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str | None], Path]:
    folder = tmp_path_factory.mktemp("tridigit")

    def make(variant: str | None) -> Path:
        path = folder / f"{variant}.edgekit"
        words = [sys.executable, "-m", "edgekit", "package", "tridigit", "-o", str(path)]
        subprocess.run([*words, *(["--variant", variant] if variant else [])], check=True, capture_output=True)
        return path

    return make


BOARDS = [
    pytest.param("amd64", None, None, id="amd64"),
    pytest.param("arm64", "pi3", None, id="cortex-a53", marks=pytest.mark.lab_emulated),
    pytest.param("arm64", "pi4", None, id="cortex-a72", marks=pytest.mark.lab_emulated),
    pytest.param("arm64", "pi5", None, id="cortex-a76", marks=pytest.mark.lab_emulated),
    pytest.param("armhf", "zero2w", "tflite-int8", id="armhf", marks=pytest.mark.lab_emulated),
]


@pytest.mark.parametrize(("arch", "board", "variant"), BOARDS)
def test_from_nothing_to_a_checked_release_with_its_layer(
    new_device: Callable[..., LabDevice],  # noqa: F811
    tridigit: Callable[[str | None], Path],
    monkeypatch: pytest.MonkeyPatch,
    arch: str,
    board: str | None,
    variant: str | None,
) -> None:
    """No pip, no network, no root on the device: the layer comes from here, and the golden samples are reproduced."""
    lab_device = new_device(arch, **({"board": board} if board else {}))
    monkeypatch.setenv("EDGEKIT_SSH_CONFIG", str(lab_device.ssh_config))
    bundle = tridigit(variant)
    with connect(f"ssh:{lab_device.host}") as device:
        facts = read_facts(device)
        layer = build_layer(find_needs(facts, read_manifest(bundle).requires))
        request = Request(**{**vars(make_request(read_payload(bundle))), "layer": layer})
        launcher = f"{facts.root}/bin/edgekit"
        golden = Checks(
            golden=lambda release: ["python3", launcher, "check", f"{release}/bundle", "--json"],
            golden_timeout_s=600,
            warm=None,
            warm_timeout_s=600,
        )
        first = deploy(device, request, golden)
        again = deploy(device, request, golden)
    assert '"passed": true' in first.report
    assert (again.sent_bytes, again.switched) == (0, False)
    assert what_runs(lab_device.root / SSH_HOME) == request.payload.digest
    print(f"\n{facts.board or facts.machine}: {first.sent_bytes / 2**20:.0f} MiB sent, checked; again 0 bytes")


def test_a_device_name_is_in_every_error(tmp_path: Path) -> None:
    """Unreachable is a transport error that says where."""
    os.environ.pop("EDGEKIT_SSH_CONFIG", None)
    with pytest.raises(TransportError, match=r"ssh nobody@127\.0\.0\.1"), connect("ssh:nobody@127.0.0.1:1") as device:
        read_facts(device)


def test_the_device_record_is_what_connect_gives() -> None:
    with connect("local:/tmp") as device:
        assert isinstance(device, Device)
        assert (device.name, device.root) == ("local:/tmp", "/tmp")
