"""Start-up: an app that predicts imports what its modality needs and nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from packing import SEVEN_PNG, SEVEN_WAV

PROGRAM = """
import json, sys
import edgekit
first = sorted(m for m in sys.modules if m.startswith("edgekit"))
with edgekit.load(sys.argv[1]) as predictor:
    predictor.predict(**json.loads(sys.argv[2]))
print(json.dumps([first, sorted(sys.modules)]))
"""

HOST_ONLY = {
    "edgekit.packaging",
    "edgekit.compression",
    "edgekit.devices",
    "edgekit.profiling",
    "edgekit.operations",
    "edgekit.cli",
    "edgekit.targets",
    "click",
    "tomllib",
    "tomli",
    "zipfile",
    "subprocess",
    "urllib.request",
    "asyncio",
    "ssl",
    "onnx",
    "huggingface_hub",
}
PER_MODALITY = {
    "image": {"soundfile", "wave", "tokenizers", "edgekit.preprocess.audio", "edgekit.preprocess.text"},
    "audio": {"PIL", "soundfile", "tokenizers", "edgekit.preprocess.picture", "edgekit.preprocess.text"},
    "text": {"PIL", "soundfile", "wave", "tokenizers", "edgekit.preprocess.picture", "edgekit.preprocess.audio"},
}
RUNTIME = "import json, sys, numpy, onnxruntime; print(json.dumps(sorted(sys.modules)))"
VALUES = {"image": str(SEVEN_PNG), "audio": str(SEVEN_WAV), "text": "seven"}


def imported(bundle: Path, given: dict[str, str]) -> tuple[list[str], set[str]]:
    """The modules after `import edgekit`, and after one predict, in a fresh interpreter."""
    command = [sys.executable, "-c", PROGRAM, str(bundle), json.dumps(given)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    first, loaded = json.loads(done.stdout.splitlines()[-1])
    return first, set(loaded)


@pytest.fixture(scope="module")
def without_us() -> set[str]:
    """What numpy and the runtime import by themselves: Python 3.10's platform module brings subprocess."""
    done = subprocess.run([sys.executable, "-c", RUNTIME], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.fixture(scope="module")
def one_sided(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """tridigit's towers as bundles of one input each."""
    from packing import TRIDIGIT, host_target, quiet

    from edgekit.packaging.build import build
    from edgekit.packaging.recipe import read_recipe
    from edgekit.specs.post import Embeddings

    draft = read_recipe(TRIDIGIT / "recipe.toml", "fp32", host_target(), [], quiet)
    folder = tmp_path_factory.mktemp("sides")
    found = {}
    for keyword in VALUES:
        source = draft.postprocess.sources[keyword]
        alone = draft._replace(
            inputs={keyword: draft.inputs[keyword]},
            graphs=tuple(g for g in draft.graphs if g.role == keyword),
            postprocess=Embeddings(task="embedding", sources={keyword: source}, normalize=True),
            files={f"{keyword}.onnx": draft.files[f"{keyword}.onnx"]},
            samples=(),
        )
        found[keyword] = folder / f"{keyword}.edgekit"
        build(alone, host_target(), found[keyword])
    return found


@pytest.mark.parametrize("keyword", VALUES)
def test_one_modality_imports_no_other(keyword: str, one_sided: dict[str, Path], without_us: set[str]) -> None:
    """L6: no packaging, deployment or command line, and no other modality's packages."""
    first, loaded = imported(one_sided[keyword], {keyword: VALUES[keyword]})
    assert first == ["edgekit"]
    roots = {name.split(".")[0] for name in loaded} | loaded
    assert roots & HOST_ONLY - without_us == set()
    assert roots & PER_MODALITY[keyword] == set()
    heavy = {"torch", "transformers", "scipy", "pydantic", "cv2", "librosa"}
    assert roots & heavy == set()


NOT_FOR_A_TEXT = {
    "edgekit.generation.loop",
    "edgekit.generation.writer",
    "edgekit.generation.token_choice",
    "edgekit.golden",
    "edgekit.preprocess.picture",
    "edgekit.preprocess.sound",
    "edgekit.runtimes.litert",
    "edgekit.postprocess.detections",
    "edgekit.postprocess.entities",
    "edgekit.postprocess.dense",
    "edgekit.postprocess.ctc",
}


def test_edgekits_own_modules_are_few(one_sided: dict[str, Path]) -> None:
    """`load` and one `predict` of a text import at most 45 of edgekit's modules, and none of other tasks."""
    _, loaded = imported(one_sided["text"], {"text": "seven"})
    own = {name for name in loaded if name.startswith("edgekit")}
    assert own & NOT_FOR_A_TEXT == set()
    assert len(own) <= 45, sorted(own)


NAMES = """
import time
before = time.process_time()
import numpy, PIL.Image, onnxruntime
between = time.process_time()
import edgekit
for name in edgekit.__all__:
    getattr(edgekit, name)
after = time.process_time()
print([between - before, after - between])
"""


@pytest.mark.timed
def test_the_public_names_cost_little_beside_what_they_stand_on() -> None:
    """`import edgekit` and all its names: at most 0.08 of the processor time of numpy, Pillow and ONNX Runtime.

    A ratio, because the 15 ms that are promised (a tenth of those) hold on an idle machine only. The
    byte code is written first: an environment that forbids it would measure the compiler.
    """
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    shares = []
    for _ in range(12):
        done = subprocess.run(
            [sys.executable, "-c", NAMES], capture_output=True, text=True, check=True, env=environment
        )
        theirs, ours = json.loads(done.stdout)
        shares.append(ours / theirs)
    assert min(shares) <= 0.08, shares


def test_the_public_names_load_no_openssl() -> None:
    """hashlib, with OpenSSL behind it, waits for the first bundle; a Frame needs no numpy."""
    program = "import edgekit, sys\nfor n in edgekit.__all__: getattr(edgekit, n)\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert {"hashlib", "PIL", "onnxruntime", "ai_edge_litert"} & set(done.stdout.split()) == set()
    program = "import edgekit, sys\nedgekit.Frame(None, order='bgr')\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert {"numpy", "PIL"} & set(done.stdout.split()) == set()
