"""Kernel handlers that run foreign binaries through qemu-user.

Ours are named edgelab-*, so that what is removed at the end is what was registered here. The
newest handler that fits wins in the kernel, so a handler of the machine's own is never touched.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .host import BINFMT_DIR, LabError, run

NAME_PREFIX = "edgelab-"


@dataclass(frozen=True)
class Handler:
    name: str
    emulator: str
    magic: str
    mask: str

    @property
    def line(self) -> str:
        """The registration (Linux, Documentation/admin-guide/binfmt-misc.rst).

        O and P as in Debian's own: the binary's descriptor and its argv[0] are passed on.
        F opens the emulator now, so no root file system needs a copy. C takes credentials from
        the binary, without which set-user-id programs run as nobody special.
        """
        interpreter = Path("/usr/libexec/qemu-binfmt") / self.emulator
        return f":{self.name}:M::{self.magic}:{self.mask}:{interpreter}:OPCF"


# Magic and mask: the ELF header's class, byte order, type (EXEC or DYN) and machine, as in
# /usr/lib/binfmt.d/qemu-{aarch64,arm}.conf of Debian's qemu-user-static.
_MASK = r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"
_ZEROS = r"\x00" * 8
HANDLERS = {
    "arm64": Handler(
        f"{NAME_PREFIX}aarch64",
        "aarch64-binfmt-P",
        rf"\x7f\x45\x4c\x46\x02\x01\x01\x00{_ZEROS}\x02\x00\xb7\x00",
        _MASK,
    ),
    "armhf": Handler(
        f"{NAME_PREFIX}arm",
        "arm-binfmt-P",
        rf"\x7f\x45\x4c\x46\x01\x01\x01\x00{_ZEROS}\x02\x00\x28\x00",
        _MASK,
    ),
}


def register(arch: str) -> None:
    """Make the kernel run binaries of this architecture (a no-op when it does already)."""
    if arch not in HANDLERS:
        raise LabError(f"no emulation of {arch} on this machine")
    handler = HANDLERS[arch]
    if not (BINFMT_DIR / "register").exists():
        run("mount", "-t", "binfmt_misc", "binfmt_misc", BINFMT_DIR)
    if (BINFMT_DIR / handler.name).exists():
        return
    try:
        (BINFMT_DIR / "register").write_text(handler.line)
    except FileExistsError:
        return
    except OSError as error:
        raise LabError(f"the kernel refused {handler.name}: {error}") from error


def registered() -> list[str]:
    """The handlers of ours that the kernel has."""
    if not (BINFMT_DIR / "register").exists():
        return []
    return sorted(entry.name for entry in BINFMT_DIR.glob(f"{NAME_PREFIX}*"))


def unregister_all() -> None:
    """Remove every handler of ours; unmount when nothing else is registered."""
    for name in registered():
        (BINFMT_DIR / name).write_text("-1")
    left = {entry.name for entry in BINFMT_DIR.iterdir()} - {"register", "status"}
    if (BINFMT_DIR / "register").exists() and not left:
        run("umount", BINFMT_DIR, check=False)
