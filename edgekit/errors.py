"""Every error a user can cause. Each names what failed and on what; `hint` is the way out.

The exit code of the command line lives on the class:

    EdgekitError            1   unexpected: a defect
      BundleError           3   format, integrity, manifest
        ManifestError           a key is missing, unknown, doubled or out of range
        IntegrityError          bytes differ from what was recorded
      InputError            4   what was given to predict or to package
        ClosedError             a predictor or a stream was used after close()
      BackendError          5   an inference runtime
        RuntimeMissing          not installed here
        GraphRefused            the runtime cannot load or run this graph
        ProviderInactive        asked for, but another one would run
      TargetError           6   the bundle does not fit the device
      TransportError        7   unreachable, a command failed, timed out
      DeployError           8   nothing was switched; the device's state is named
      GateFailed            9   a check, a profile or a comparison is outside its bound
      GateInconclusive     10   too noisy or too few samples to say
"""

from __future__ import annotations

from typing import ClassVar


class EdgekitError(Exception):
    """Base of every error raised on purpose; `str()` is the message and, if any, the hint."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\nhint: {self.hint}" if self.hint else self.message


class BundleError(EdgekitError):
    """A bundle cannot be read or written."""

    exit_code = 3


class ManifestError(BundleError):
    """A record does not have exactly the keys and values it must have; `key` is the dotted path."""

    def __init__(self, key: str, problem: str, *, hint: str | None = None) -> None:
        super().__init__(f"manifest key '{key}': {problem}" if key else f"manifest: {problem}", hint=hint)
        self.key = key
        self.problem = problem

    def __reduce__(self) -> tuple[object, ...]:
        """Pickled by what it was made of, so that it crosses a process pool like the others."""
        return _manifest_error, (self.key, self.problem, self.hint)


def _manifest_error(key: str, problem: str, hint: str | None) -> ManifestError:
    return ManifestError(key, problem, hint=hint)


class IntegrityError(BundleError):
    """Bytes are not the ones that were recorded."""


class InputError(EdgekitError):
    """A value given to predict, or a source given to package, cannot be used."""

    exit_code = 4


class ClosedError(InputError):
    """The predictor or stream was closed before this call."""


class BackendError(EdgekitError):
    """An inference runtime failed."""

    exit_code = 5


class RuntimeMissing(BackendError):
    """The inference runtime that a graph needs is not installed in this interpreter."""


class GraphRefused(BackendError):
    """The runtime does not load or run this graph, or its tensors differ from the manifest."""


class ProviderInactive(BackendError):
    """An execution provider was asked for and another one would run."""


class TargetError(EdgekitError):
    """The bundle does not fit the device: the message says need and have."""

    exit_code = 6


class TransportError(EdgekitError):
    """A device cannot be reached, or a command on it failed or timed out."""

    exit_code = 7


class DeployError(EdgekitError):
    """A deployment stopped; the message ends with what the device still runs."""

    exit_code = 8


class GateFailed(EdgekitError):
    """A check, profile or comparison is outside its bound."""

    exit_code = 9


class GateInconclusive(EdgekitError):
    """A gate could not be decided: too few samples, too much noise, another environment."""

    exit_code = 10
