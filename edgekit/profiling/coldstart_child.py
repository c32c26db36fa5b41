"""The fresh process of a cold start: load a bundle, predict once, print the clock marks as one line of JSON.

`python -m edgekit.profiling.coldstart_child '{"bundle": ..., "threads": ..., "item": {...}}'`
"""

from __future__ import annotations

import sys
import time


def main(begun: float) -> int:
    """Read the document from the first argument; `begun` is the clock at the interpreter's first statement.

    bundle: path. threads: number or null. item: keyword -> where its value comes from, see workload.value_of.
    """
    import json
    from itertools import pairwise

    from edgekit.profiling.memory import read_status
    from edgekit.profiling.workload import keywords

    told = json.loads(sys.argv[1])
    clock = time.perf_counter
    marks = [begun]
    from edgekit import predictor

    marks.append(clock())
    from contextlib import closing

    from edgekit.bundle import open_bundle

    with closing(open_bundle(told["bundle"])) as bundle:
        manifest = bundle.manifest
        given = keywords(told["item"], lambda name: bundle.read(name, manifest.files[name].size))
    marks.append(clock())
    _import_runtimes({graph.runtime for graph in manifest.graphs})
    _import_modalities(set(manifest.inputs))
    marks.append(clock())
    with predictor.load(told["bundle"], threads=told["threads"]) as loaded:
        marks.append(clock())
        loaded.predict(**given)
        marks.append(clock())
    peak_bytes = read_status().get("VmHWM")
    edgekit_s, open_s, runtime_s, session_s, predict_s = (b - a for a, b in pairwise(marks))
    parts = {
        "imports": edgekit_s + runtime_s,
        "open": open_s,
        "session": session_s,
        "first_predict": predict_s,
    }
    print(json.dumps({"begun": begun, "done": marks[-1], "parts_s": parts, "peak_bytes": peak_bytes}))
    return 0


def _import_runtimes(names: set[str]) -> None:
    if "onnxruntime" in names:
        import onnxruntime  # noqa: F401
    if "litert" in names:
        try:
            import ai_edge_litert.interpreter  # noqa: F401
        except ImportError:
            import tflite_runtime.interpreter  # noqa: F401


def _import_modalities(keywords: set[str]) -> None:
    """What predict would import at its first call; a package that is absent is left for predict to say."""
    from contextlib import suppress

    with suppress(ImportError, OSError):
        if "image" in keywords:
            import PIL.Image  # noqa: F401
        if "audio" in keywords:
            import soundfile  # noqa: F401
        if "text" in keywords:
            import tokenizers  # noqa: F401


if __name__ == "__main__":
    raise SystemExit(main(time.perf_counter()))
