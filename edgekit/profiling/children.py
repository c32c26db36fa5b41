"""What a child process needs to find the same packages as this one."""

from __future__ import annotations

import os
import sys


def child_environment() -> dict[str, str]:
    """This process's environment, with the folders that it imports from beyond its interpreter's own.

    A release is started with its layer on sys.path only: without this its children would not find edgekit.
    """
    own = tuple(os.path.realpath(prefix) + os.sep for prefix in (sys.prefix, sys.base_prefix))
    added = [path for path in sys.path if path and not (os.path.realpath(path) + os.sep).startswith(own)]
    inherited = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    folders = list(dict.fromkeys(added + inherited))
    environment = dict(os.environ)
    if folders:
        environment["PYTHONPATH"] = os.pathsep.join(folders)
    return environment
