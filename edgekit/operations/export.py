"""`export android`: a bundle as a Gradle module, once phone and Java library are known to be able to do all of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.errors import TargetError
from edgekit.targets import check_fit, find_target

if TYPE_CHECKING:
    from edgekit.export.android import Exported

TARGET = "android-arm64"
READ_LIMIT_BYTES = 64 << 20


def export_android(bundle: str, folder: Path) -> Exported:
    """Write the module of a bundle. Raises BundleError, TargetError naming the key, InputError."""
    from edgekit.bundle import open_bundle
    from edgekit.export.android import write_module
    from edgekit.packaging.android import check_graph
    from edgekit.packaging.support import check_supported

    target = find_target(TARGET)
    with open_bundle(bundle, verify="full") as opened:
        manifest = opened.manifest
        if manifest.target != target.name:
            raise TargetError(
                f"'{manifest.name}' is packaged for {manifest.target}, expected {target.name}",
                hint=f"edgekit package SOURCE --target {target.name}",
            )
        check_fit(manifest, target)
        check_supported(
            target,
            manifest.inputs,
            manifest.graphs,
            manifest.postprocess,
            manifest.generation,
            lambda name: opened.read(name, READ_LIMIT_BYTES),
        )
        for graph in manifest.graphs:
            check_graph(Path(opened.path_for_loading(graph.file)), graph, manifest.inputs)
        return write_module(opened, folder)
