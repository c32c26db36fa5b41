"""What a graph of a hub folder takes: the input's spec from the folder's configs, whatever the task."""

from __future__ import annotations

import re

from edgekit.errors import InputError
from edgekit.manifest import Constant, InputSpec
from edgekit.packaging.draft import Content
from edgekit.packaging.hf_audio import AudioPort, read_audio
from edgekit.packaging.hf_graphs import Side, Staged, constant
from edgekit.packaging.hf_image import ImagePort, read_image
from edgekit.packaging.hf_text import TextPorts, frames, read_text
from edgekit.packaging.hub_folder import Config, HubFolder
from edgekit.packaging.questions import Questions


def place(staged: Staged, files: dict[str, Content]) -> None:
    """Add a graph and its outside weights to the files of the bundle."""
    files[staged.file] = staged.content
    if staged.data is not None and staged.data_name is not None:
        files[staged.data_name] = staged.data


def read_input(
    folder: HubFolder, staged: Staged, side: Side, files: dict[str, Content], ask: Questions
) -> tuple[InputSpec, list[Constant]]:
    """The spec of a graph's input of this kind, and its inputs that never change."""
    known = {"image": ("pixel_values", "pixel_mask"), "text": ("input_ids", "attention_mask", "token_type_ids"),
             "audio": ("input_values", "input_features", "attention_mask", "is_longer")}[side]  # fmt: skip
    strangers = [name for name in staged.inputs if name not in known]
    if strangers:
        raise InputError(
            f"{staged.graph.path.name} takes '{strangers[0]}', which nothing in {folder.name} says how to make",
            hint=f"known for {side}: {', '.join(known)}; export the graph without it, or write a recipe.toml",
        )
    if side == "text":
        return _text(folder, staged, files, ask), []
    if side == "audio":
        # CLAP's is_longer: false, as for every sound that is not fused.
        return _audio(folder, staged, ask), [constant(t, 0.0) for n, t in staged.inputs.items() if n == "is_longer"]
    return _image(folder, staged, ask)


def _text(folder: HubFolder, staged: Staged, files: dict[str, Content], ask: Questions) -> InputSpec:
    ids = staged.inputs["input_ids"]
    names = {n: n if n in staged.inputs else None for n in ("attention_mask", "token_type_ids")}
    tokens = ids.shape[1] if len(ids.shape) == 2 else -1
    ports = TextPorts("input_ids", names["attention_mask"], names["token_type_ids"], ids.datatype, tokens)
    return read_text(folder, ports, files, ask)


def _audio(folder: HubFolder, staged: Staged, ask: Questions) -> InputSpec:
    name = "input_values" if "input_values" in staged.inputs else "input_features"
    mask = "attention_mask" if "attention_mask" in staged.inputs else None
    config = _processor_config(folder, "feature_extractor")
    least = frames(folder)[0] if "conv_kernel" in folder.config else 1
    port = AudioPort(name, mask, staged.inputs[name].shape)
    return read_audio(config, str(folder.config.get("model_type", "")), port, least, ask)


def _image(folder: HubFolder, staged: Staged, ask: Questions) -> tuple[InputSpec, list[Constant]]:
    pixels = staged.inputs["pixel_values"]
    if len(pixels.shape) != 4:
        raise InputError(f"{staged.graph.path.name}: 'pixel_values' has shape {list(pixels.shape)}, expected four axes")
    channels_last = pixels.shape[3] == 3 and pixels.shape[1] != 3
    channels, height, width = (pixels.shape[i] for i in ((3, 1, 2) if channels_last else (1, 2, 3)))
    if channels not in (-1, 3):
        raise InputError(f"{staged.graph.path.name}: pictures of {channels} channels are not supported")
    dtypes = {"FP32": "float32", "FP16": "float16"}
    if pixels.quantization is not None:
        dtypes = {"UINT8": "uint8", "INT8": "int8"}
    if pixels.datatype not in dtypes:
        raise InputError(f"{staged.graph.path.name}: 'pixel_values' is {pixels.datatype}, expected {', '.join(dtypes)}")
    mask, constants = _pixel_mask(staged)
    port = ImagePort(
        value="pixel_values",
        mask=mask,
        dtype=dtypes[pixels.datatype],
        layout="nhwc" if channels_last else "nchw",
        height=height,
        width=width,
        quantization=pixels.quantization,
    )
    config = _processor_config(folder, "image_processor")
    return read_image(config, str(folder.config.get("model_type", "")), port, ask), constants


def _pixel_mask(staged: Staged) -> tuple[str | None, list[Constant]]:
    """A mask of free size comes from the picture; one of fixed size is of ones, as a picture alone has no padding."""
    tensor = staged.inputs.get("pixel_mask")
    if tensor is None:
        return None, []
    if len(tensor.shape) == 3 and tensor.shape[1] > 0 and tensor.shape[2] > 0:
        return None, [constant(tensor, 1.0)]
    return "pixel_mask", []


def _processor_config(folder: HubFolder, part: str) -> Config:
    """preprocessor_config.json, or its part of processor_config.json (transformers 5)."""
    if folder.preprocessor:
        return folder.preprocessor
    inner = folder.processor.get(part)
    if isinstance(inner, dict):
        return inner
    raise InputError(
        f"{folder.name}: preprocessor_config.json is missing: nothing says how an input is prepared",
        hint="download it too; optimum writes it beside the graphs",
    )


def read_license(folder: HubFolder) -> str:
    """The licence that the model card's header names, else that it says none."""
    card = folder.path / "README.md"
    if card.is_file():
        header = card.read_bytes()[:8192].decode("utf-8", "replace").split("\n---", 1)[0]
        found = re.search(r"^license:\s*([\w.+-]+)\s*$", header, re.MULTILINE)
        if found and header.startswith("---"):
            return found[1]
    return "not stated in the folder"
