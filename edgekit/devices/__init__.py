"""Devices: transports, layers, the deployment plan and its execution, rollback.

with connect("local:./device") as device:
    outcome = deploy(device, request, checks)
"""

from __future__ import annotations

from edgekit.devices.address import Address, parse_address
from edgekit.devices.check import HostDriven, Verdict
from edgekit.devices.device import Device, connect
from edgekit.devices.doctor import Finding, examine, recognise
from edgekit.devices.execute import Checks, Outcome, deploy, preview
from edgekit.devices.facts import Facts, InstalledApp, read_facts
from edgekit.devices.layers import Needs, build_layer, find_needs
from edgekit.devices.maintain import AppStatus, Switched, remove, rollback, status
from edgekit.devices.plan import Plan, Request, Step
from edgekit.devices.release import (
    BUNDLE_FOLDER,
    NO_LAYER,
    RECORD_NAME,
    Layer,
    Payload,
    ReleaseRecord,
    read_payload,
    release_folder,
)
from edgekit.devices.session import Progress

__all__ = [
    "BUNDLE_FOLDER",
    "NO_LAYER",
    "RECORD_NAME",
    "Address",
    "AppStatus",
    "Checks",
    "Device",
    "Facts",
    "Finding",
    "HostDriven",
    "InstalledApp",
    "Layer",
    "Needs",
    "Outcome",
    "Payload",
    "Plan",
    "Progress",
    "ReleaseRecord",
    "Request",
    "Step",
    "Switched",
    "Verdict",
    "build_layer",
    "connect",
    "deploy",
    "examine",
    "find_needs",
    "parse_address",
    "preview",
    "read_facts",
    "read_payload",
    "recognise",
    "release_folder",
    "remove",
    "rollback",
    "status",
]
