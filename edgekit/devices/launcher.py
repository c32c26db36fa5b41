"""`<root>/bin/edgekit` on a device: runs edgekit from the layer that an app's release names. Standard library only.

edgekit predict APP --image cat.jpg        the layer of the release that APP runs
edgekit check RELEASE/bundle               the layer of that release
edgekit --version                          any layer
"""

from __future__ import annotations

import json
import os
import runpy
import sys
from typing import Any


def main() -> None:
    """Put the layer first on the path and hand over to edgekit's command line."""
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    os.environ.setdefault("EDGEKIT_ROOT", root)
    layer = find_layer(root, sys.argv[1:])
    wanted = read(os.path.join(layer, "layer.json"))["python"]
    have = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if wanted != have:
        sys.exit(f"edgekit: the layer is for Python {wanted}, this is {have}: deploy again")
    # A power cut tears what was just written, and Python takes half of a module's byte code for whole. Only the check
    # of a deployment writes it, which is flushed before the switch.
    sys.dont_write_bytecode = "EDGEKIT_KEEP_BYTECODE" not in os.environ
    sys.path[0] = layer
    sys.argv[0] = "edgekit"
    runpy.run_module("edgekit", run_name="__main__")


def find_layer(root: str, words: list[str]) -> str:
    """The folder of the layer for the first word that is an app or lies in a release; else of any layer."""
    for word in words[1:]:  # the first one is the command
        release = find_release(root, word)
        if release:
            name = read(os.path.join(release, "release.json"))["layer"]
            return os.path.join(root, "layers", name)
    layers = os.path.join(root, "layers")
    for name in sorted(os.listdir(layers)) if os.path.isdir(layers) else ():
        return os.path.join(layers, name)
    sys.exit(f"edgekit: no layer in {root}: deploy something first")


def find_release(root: str, word: str) -> str | None:
    """The release folder that a word means, or None."""
    if word.startswith("-"):
        return None
    app = os.path.join(root, "apps", word)
    if "/" not in word and os.path.isfile(os.path.join(app, "state.json")):
        current = read(os.path.join(app, "state.json"))["current"]
        return os.path.join(app, "releases", current) if current else None
    for folder in (word, os.path.dirname(word.rstrip("/"))):
        if os.path.isfile(os.path.join(folder, "release.json")):
            return folder
    return None


def read(path: str) -> dict[str, Any]:
    """A JSON file of the device."""
    with open(path, encoding="utf-8") as file:
        found: dict[str, Any] = json.load(file)
    return found


if __name__ == "__main__":
    main()
