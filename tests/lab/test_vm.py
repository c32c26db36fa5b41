"""The whole machine of tier 3: `pytest -m lab_vm tests/lab`."""

from __future__ import annotations

import time

from .vm import Vm

MIB = 2**20
_UNIT = """[Unit]
Description=edgelab
[Service]
ExecStart=/usr/bin/sleep infinity
Restart=always
RestartSec=0
[Install]
WantedBy=multi-user.target
"""


def test_a_machine_has_systemd_and_the_boards_identity(vm: Vm) -> None:
    """systemd is up without a failed unit; model, core and memory are those of a small Pi 4."""
    assert vm.run("systemctl is-system-running --wait").stdout == "running\n"
    assert vm.run("cat /proc/device-tree/model").stdout.startswith("Raspberry Pi 4 Model B")
    assert "0xd08" in vm.run("cat /proc/cpuinfo").stdout
    total = vm.run("head -n 1 /proc/meminfo").stdout.split()
    assert int(total[1]) * 1024 < 512 * MIB


def test_a_service_is_restarted_and_comes_back_after_a_reboot(vm: Vm) -> None:
    """An enabled unit survives kill -9 of its process and a restart of the machine."""
    unit = "/etc/systemd/system/edgelab.service"
    vm.run(f"sudo tee {unit} <<'END'\n{_UNIT}END\nsudo systemctl daemon-reload")
    assert vm.run("sudo systemctl enable --now edgelab").returncode == 0
    vm.run("sudo systemctl kill -s KILL edgelab; sleep 2")
    assert vm.run("systemctl show -P NRestarts edgelab").stdout == "1\n"
    assert vm.run("systemctl is-active edgelab").stdout == "active\n"
    before = vm.boot_id()
    vm.reboot()
    assert vm.boot_id() != before
    assert vm.run("systemctl is-active --wait edgelab").stdout == "active\n"


def test_a_power_cut_tears_what_was_being_written(vm: Vm) -> None:
    """After the cut a synced file is whole, and the machine comes up again by itself."""
    vm.run("seq 100000 > synced; sync synced; sync .")
    writer = "nohup sh -c 'dd if=/dev/urandom of=torn bs=1M count=800 conv=fsync' >/dev/null 2>&1 &"
    vm.run(writer)
    time.sleep(3)
    vm.power_cut()
    vm.boot()
    assert vm.run("stat -c %s synced").stdout == "588895\n"
    assert int(vm.run("stat -c %s torn || echo 0").stdout) < 800 * MIB


def test_a_machine_has_a_clock_and_a_link_of_its_own(vm: Vm) -> None:
    """The clock can be set without touching this machine's, and the link can be slow and lossy."""
    vm.run("sudo date -s 2001-01-01")
    assert vm.run("date +%Y").stdout == "2001\n"
    assert time.gmtime().tm_year > 2020
    assert vm.run("sudo tc qdisc add dev eth0 root netem delay 50ms loss 1%").returncode == 0
    assert vm.run("echo still here").stdout == "still here\n"
