"""edgekit: package compressed multimodal models, deploy them to edge devices, predict and profile there.

    with edgekit.load("clip.edgekit") as clip:
        print(clip.predict(image="cat.jpg", text=["a cat", "a dog"]).label)

The public names are resolved on first use, so that an app that only predicts imports no deployment code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from edgekit.errors import (
        BackendError as BackendError,
    )
    from edgekit.errors import (
        BundleError as BundleError,
    )
    from edgekit.errors import (
        ClosedError as ClosedError,
    )
    from edgekit.errors import (
        DeployError as DeployError,
    )
    from edgekit.errors import (
        EdgekitError as EdgekitError,
    )
    from edgekit.errors import (
        InputError as InputError,
    )
    from edgekit.errors import (
        TargetError as TargetError,
    )
    from edgekit.errors import (
        TransportError as TransportError,
    )
    from edgekit.predictor import Predictor as Predictor
    from edgekit.predictor import load as load
    from edgekit.predictor import load_app as load_app
    from edgekit.preprocess.frame import Frame as Frame
    from edgekit.results import Result as Result

_HOMES = {
    "load": "edgekit.predictor",
    "load_app": "edgekit.predictor",
    "Predictor": "edgekit.predictor",
    "Frame": "edgekit.preprocess.frame",
    "Result": "edgekit.results",
    "EdgekitError": "edgekit.errors",
    "BundleError": "edgekit.errors",
    "InputError": "edgekit.errors",
    "ClosedError": "edgekit.errors",
    "BackendError": "edgekit.errors",
    "TargetError": "edgekit.errors",
    "TransportError": "edgekit.errors",
    "DeployError": "edgekit.errors",
}

__all__ = ["__version__", *_HOMES]  # the table is the one list of public names


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'edgekit' has no attribute '{name}'")
    module = __import__(_HOMES[name], fromlist=[name])
    value = getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
