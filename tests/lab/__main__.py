"""By hand, from the folder of the tests: `python -m lab build` and `python -m lab teardown`."""

from __future__ import annotations

import sys

from . import rootfs, teardown
from .host import SharedHold


def main(words: list[str]) -> int:
    if words == ["build"]:
        print(*rootfs.build_all(), sep="\n")
    elif words == ["teardown"]:
        print(*teardown.remove_leftovers(), sep="\n")
        teardown.release(SharedHold())
    else:
        print("usage: python -m lab build|teardown", file=sys.stderr)
        return 2
    return 0


sys.exit(main(sys.argv[1:]))
