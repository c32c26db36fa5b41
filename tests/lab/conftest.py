"""Devices for the tests of this folder."""

from __future__ import annotations

from .fixtures import (  # noqa: F401
    adb_server,
    amd64_device,
    android,
    android_arm64,
    fake_adbd,
    lab,
    new_device,
    pi3,
    pi4,
    pi5,
    pytest_collection_modifyitems,
    pytest_configure,
    vm,
    zero2w_32,
)
