"""The lab: makes devices, knows them all, and takes everything down again."""

from __future__ import annotations

import atexit
import itertools
import os
import shutil
import tempfile
from pathlib import Path
from types import TracebackType

from . import adb, binfmt, network, rootfs, ssh, teardown
from .adb import AdbAccess, AdbServer
from .boards import BOARDS, CORES, Board
from .device import Device, DeviceSpec
from .host import LabError, SharedHold, machine_arch, owner_tag
from .ssh import SshAccess

GIB = 2**30
CARD_BYTES = 4 * GIB
_BOARD_OF_ARCH = {"amd64": "pc", "arm64": "pi4", "armhf": "zero2w"}
_ARMHF_CPU = "cortex-a7"


def _find_board(name: str) -> Board:
    if name not in BOARDS:
        raise LabError(f"no board {name!r}; there are {', '.join(BOARDS)}")
    return BOARDS[name]


def _core(arch: str, cpu: str | None, board: Board) -> str:
    """The core to emulate; "" on a device of this machine's own kind."""
    if arch == "amd64":
        return ""
    core = cpu or (_ARMHF_CPU if arch == "armhf" else board.core)
    if arch == "arm64" and core not in CORES:
        raise LabError(f"no core {core!r}; there are {', '.join(CORES)}")
    return core


def _emulation(arch: str, cpu: str) -> dict[str, str]:
    """Always set when emulated: QEMU's default core is ten times slower and hides bugs."""
    return {} if arch == machine_arch() else {"QEMU_CPU": cpu}


class Lab:
    """All devices of one process; leaving the block removes them, also after an exception."""

    def __init__(self) -> None:
        teardown.remove_leftovers()
        self._hold = SharedHold()
        self._tag = f"{teardown.NAME_PREFIX}{owner_tag()}"
        self.folder = Path(tempfile.mkdtemp(prefix=f"{self._tag}-"))
        # sshd and adbd are entered as other users below this folder.
        self.folder.chmod(0o755)
        self._numbers = itertools.count(1)
        self._devices: list[Device] = []
        self._adb_servers: dict[str, AdbServer] = {}
        self._key = self.folder / "id"
        self._public_key = ssh.make_key(self._key)
        self._is_open = True
        self._pid = os.getpid()
        network.add_guard_route()
        atexit.register(self.close)

    def __enter__(self) -> Lab:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def device(
        self,
        arch: str = "amd64",
        *,
        suite: str = "bookworm",
        cpu: str | None = None,
        board: str | None = None,
        hostname: str = "raspberrypi",
        card_bytes: int = CARD_BYTES,
        ram_bytes: int | None = None,
        memory_limit_bytes: int | None = None,
    ) -> Device:
        """Boot a new device that is reached by ssh.

        arch: amd64, arm64 or armhf. suite: bookworm or, on arm64, trixie. board: a key of BOARDS.
        cpu: the emulated core of an arm64 device, otherwise the board's own. ram_bytes: what
        /proc/meminfo says, otherwise the board's. memory_limit_bytes: what the kernel enforces,
        the emulator's own memory included.
        """
        if (arch, suite) not in rootfs.SSH_ROOTS:
            raise LabError(f"no {arch} device with {suite}")
        the_board = _find_board(board or _BOARD_OF_ARCH[arch])
        core = _core(arch, cpu, the_board)
        name, lower = self._place(rootfs.SSH_ROOTS[arch, suite])
        spec = DeviceSpec(
            name=name,
            arch=arch,
            cpu=core,
            board=the_board,
            lower=lower,
            user="0:0",
            server=ssh.SERVER,
            port=ssh.PORT,
            environ=_emulation(arch, core),
            hostname=hostname,
            card_bytes=card_bytes,
            ram_bytes=ram_bytes or the_board.ram_bytes,
            memory_limit_bytes=memory_limit_bytes,
        )
        state = self.folder / spec.name
        host_key = ssh.write_server_files(state / "seed", self._public_key, dict(spec.environ))
        link = network.connect(spec.name)
        alias = f"{hostname}-{spec.name.rpartition('-')[2]}"
        access = SshAccess(alias, state / "ssh_config")
        kind, key = host_key.split()[:2]
        known = f"{link.address} {kind} {key}\n"
        self.write_ssh_config(access.config, alias=alias, address=link.address, known_hosts=known)
        return self._boot(Device(spec, state, link, access))

    def android(
        self,
        arch: str = "amd64",
        *,
        cpu: str | None = None,
        board: str | None = None,
        client: str = "system",
        runner: bool = False,
        card_bytes: int = CARD_BYTES,
        memory_limit_bytes: int | None = None,
    ) -> Device:
        """Boot a new device that is reached by adb, through the server of this client.

        arch: amd64 or arm64. client: "system" (this machine's adb) or "34" (Debian trixie's). runner: with what
        the stand-in for benchmark_model needs; Python stays off PATH, where a phone has none.
        """
        the_board = _find_board(board or _BOARD_OF_ARCH[arch])
        core = _core(arch, cpu, the_board)
        name, lower = self._place((rootfs.PHONE_ROOTS if runner else rootfs.ANDROID_ROOTS)[arch])
        spec = DeviceSpec(
            name=name,
            arch=arch,
            cpu=core,
            board=the_board,
            lower=lower,
            user=adb.SHELL,
            server=(adb.ADBD,),
            port=adb.PORT,
            environ={"PATH": adb.PATH, "ADBD_PORT": str(adb.PORT), **_emulation(arch, core)},
            hostname="localhost",
            card_bytes=card_bytes,
            ram_bytes=the_board.ram_bytes,
            memory_limit_bytes=memory_limit_bytes,
        )
        state = self.folder / spec.name
        adb.write_build_prop(state / "seed", arch)
        link = network.connect(spec.name)
        access = AdbAccess(f"{link.address}:{adb.PORT}", self.adb_server(client))
        return self._boot(Device(spec, state, link, access))

    def adb_server(self, client: str = "system") -> AdbServer:
        """The lab's adb server of this client, started on first use."""
        if client not in self._adb_servers:
            make = {"system": adb.system_client, "34": adb.trixie_client}[client]
            program = make(self.folder / "adb")
            self._adb_servers[client] = AdbServer(program, self.folder / f"adb-home-{client}")
        return self._adb_servers[client]

    def write_ssh_config(
        self,
        path: Path,
        *,
        alias: str,
        address: str,
        known_hosts: str,
        port: int = ssh.PORT,
        user: str = ssh.USER,
    ) -> None:
        """Write a client configuration with the lab's user key; `known_hosts` may be empty."""
        ssh.write_client_config(
            path,
            alias=alias,
            address=address,
            port=port,
            user=user,
            key=self._key,
            known_hosts=known_hosts,
        )

    def ssh_config(self, path: Path) -> Path:
        """One configuration for every ssh device that runs now."""
        configs = [d.ssh_config for d in self._devices if isinstance(d.access, SshAccess)]
        path.write_text("".join(f'Include "{config}"\n' for config in configs))
        return path

    def _place(self, root: rootfs.RootSpec) -> tuple[str, Path]:
        """A new device's name and its read-only root file system, runnable on this machine."""
        if root.arch != machine_arch():
            binfmt.register(root.arch)
        return f"{self._tag}-{next(self._numbers)}", rootfs.root_path(root)

    def _boot(self, device: Device) -> Device:
        self._devices.append(device)
        try:
            device.boot()
        except BaseException:
            self.remove(device)
            raise
        return device

    def remove(self, device: Device) -> None:
        """Close a device before the lab ends."""
        self._devices.remove(device)
        device.close()

    def close(self) -> None:
        """Take everything down; once is enough, more does no harm."""
        # A forked child must not take down what is its parent's.
        if not self._is_open or os.getpid() != self._pid:
            return
        self._is_open = False
        atexit.unregister(self.close)
        for device in self._devices:
            device.close()
        for server in self._adb_servers.values():
            server.close()
        shutil.rmtree(self.folder, ignore_errors=True)
        teardown.release(self._hold)
