"""Virtual devices for tests: real sshd and adbd, real file systems, real faults.

`with Lab() as lab: device = lab.device("arm64", board="pi4")` boots an emulated Raspberry Pi 4;
`device.run("uname -m")` reaches it by ssh and `device.cut_link()` pulls its plug.
"""

from __future__ import annotations

from .device import Device
from .host import LabError
from .lab import Lab

__all__ = ["Device", "Lab", "LabError"]
