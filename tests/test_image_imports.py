"""Promise: importing Frame costs neither numpy nor Pillow, and image preprocessing imports nothing beyond those two."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import sys
from edgekit.preprocess.frame import Frame
light = [name for name in ("numpy", "PIL") if name in sys.modules]
import numpy, PIL.Image
before = set(sys.modules)
import edgekit.preprocess.image
after = {name.partition(".")[0] for name in set(sys.modules) - before}
print(light, sorted(after - set(sys.stdlib_module_names)))
"""


def test_imports() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] ['edgekit']"
