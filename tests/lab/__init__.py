"""Virtual devices for tests: real sshd and adbd, real file systems, real faults::

with Lab() as lab:
    pi = lab.device("arm64", board="pi4")
    assert pi.run("uname -m").stdout == "aarch64\\n"
    pi.cut_link()
"""

from __future__ import annotations

from .device import Device
from .host import LabError
from .lab import Lab

__all__ = ["Device", "Lab", "LabError"]
