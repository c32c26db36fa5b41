"""The draft of an ONNX file alone: arrays in, arrays out, for it says nothing about pictures, sounds or texts."""

from __future__ import annotations

import re
from pathlib import Path

from edgekit.errors import InputError
from edgekit.manifest import GraphSpec
from edgekit.packaging.draft import LIMITS, Content, Draft
from edgekit.packaging.hub_folder import external_files, stored_precision
from edgekit.packaging.ports import read_all_ports
from edgekit.packaging.questions import Questions
from edgekit.packaging.sampling import generated_sample
from edgekit.specs.post import Raw
from edgekit.specs.tensor import Port, TensorInput

_NOTE = (
    "an ONNX file does not say what its arrays mean: predict takes and gives them as they are. "
    "A folder with config.json and preprocessor_config.json, or a recipe.toml, brings pictures, sounds and texts"
)


def read_plain_onnx(path: Path, answers: dict[str, str]) -> Draft:
    """The draft of a .onnx or .ort file by itself; the keywords of predict are its inputs' names.

    Raises InputError naming what it does not say, GraphRefused for a file that the runtime refuses.
    """
    ask = Questions(path.name, answers)
    license_name = ask.text("license", "the model's licence")
    ask.finish()
    inputs, outputs = read_all_ports(path, "onnxruntime", "nearest_even")
    keywords = [_keyword(port) for port in inputs]
    if len(set(keywords)) < len(keywords):
        raise InputError(f"{path.name}: two inputs become one keyword of {keywords}", hint="write a recipe.toml")
    specs = {
        keyword: TensorInput(kind="tensor", value=port.value, datatype=port.datatype, shape=port.shape)
        for keyword, port in zip(keywords, inputs)
    }
    file = f"model{path.suffix.lower()}"
    files, data = _staged(path, file)
    graph = GraphSpec(
        name="model",
        file=file,
        data=data,
        runtime="onnxruntime",
        role="model",
        precision=stored_precision(path),
        inputs=inputs,
        outputs=outputs,
        state=(),
        constants=(),
    )
    taken = [f"predict({key}=array of {p.datatype} {list(p.shape)})" for key, p in zip(keywords, inputs)]
    return Draft(
        name=re.sub(r"[^a-z0-9._-]+", "-", path.stem.lower()).strip("-._")[:64] or "model",
        version="1",
        task="raw",
        license=license_name,
        source=path.name,
        inputs=dict(specs),
        graphs=(graph,),
        postprocess=Raw(task="raw", values=tuple(port.value for port in outputs)),
        files=files,
        samples=(generated_sample(dict(specs), files),),
        limits=LIMITS,
        notes=(_NOTE, *taken),
    )


def _staged(path: Path, file: str) -> tuple[dict[str, Content], str | None]:
    """The files in the bundle, and the name of the one with outside weights."""
    if not external_files(path):
        return {file: path}, None
    from edgekit.packaging.split import gather_weights

    packed = gather_weights(path, "model.data")
    files: dict[str, Content] = {file: packed.graph}
    if packed.data is None:
        return files, None
    return {**files, "model.data": packed.data}, "model.data"


def _keyword(port: Port) -> str:
    word = re.sub(r"\W", "_", port.name)
    return word if word.isidentifier() else f"_{word}"
