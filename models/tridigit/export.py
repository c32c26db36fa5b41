"""Turn the checkpoint of train.py into ONNX and TFLite graphs in fp32, fp16 and int8, and write the golden tensors.

python export.py --data DIR --checkpoint build/tridigit.pt
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tensorflow as tf
import torch
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.calibrate import CalibrationDataReader
from onnxruntime.quantization.shape_inference import quant_pre_process
from onnxruntime.transformers.float16 import convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel
from PIL import Image
from tensorflow.lite.tools import flatbuffer_utils
from torch import nn
from torch.nn import functional as F

import features
import train

Array = NDArray[Any]

ONNX_OPSET = 17
CALIBRATION_IMAGES = 2000
CALIBRATION_RECORDINGS = 2000
GOLDEN_SPEAKER = "jackson"
GOLDEN_DIGIT = 7
GOLDEN_TEXTS = ("seven", "7", "three")


@dataclass(frozen=True)
class Tower:
    """One graph: its tensors' names, its module, the same computation in TensorFlow, and its training inputs."""

    name: str
    input_name: str
    output_name: str
    module: nn.Module
    tensorflow: Callable[[tf.Tensor], tf.Tensor]
    calibration: Array  # (n, ...) in the layout of ONNX

    def example(self) -> Array:
        return self.calibration[:1]


# ---- the same towers in TensorFlow, batch normalisation folded into the convolutions


def folded(layer: nn.Sequential) -> tuple[tf.Tensor, tf.Tensor]:
    """Return (kernel HWIO, bias) of a convolution followed by batch normalisation in inference."""
    fused = torch.nn.utils.fuse_conv_bn_eval(layer[0], layer[1])
    kernel = fused.weight.detach().permute(2, 3, 1, 0).contiguous().numpy()
    return tf.constant(kernel), tf.constant(fused.bias.detach().numpy())


def dense(layer: nn.Linear) -> tuple[tf.Tensor, tf.Tensor]:
    return tf.constant(layer.weight.detach().T.contiguous().numpy()), tf.constant(layer.bias.detach().numpy())


def convolve(values: tf.Tensor, weights: tuple[tf.Tensor, tf.Tensor], padding: Any) -> tf.Tensor:
    return tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(values, weights[0], 1, padding), weights[1]))


def pool(values: tf.Tensor) -> tf.Tensor:
    return tf.nn.max_pool2d(values, 2, 2, "VALID")


def project(values: tf.Tensor, weights: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
    return tf.nn.bias_add(tf.matmul(values, weights[0]), weights[1])


def image_in_tensorflow(tower: train.ImageTower) -> Callable[[tf.Tensor], tf.Tensor]:
    layers = [folded(layer) for layer in tower.convolutions]
    projection = dense(tower.projection)

    def run(pixel_values: tf.Tensor) -> tf.Tensor:
        hidden = pixel_values
        for layer in layers[:-1]:
            hidden = pool(convolve(hidden, layer, "SAME"))
        hidden = convolve(hidden, layers[-1], "VALID")
        return project(tf.reshape(hidden, [1, projection[0].shape[0]]), projection)

    return run


def audio_in_tensorflow(tower: train.AudioTower) -> Callable[[tf.Tensor], tf.Tensor]:
    layers = [folded(layer) for layer in tower.convolutions]
    across_bands, across_time = folded(tower.across_bands), folded(tower.across_time)
    projection = dense(tower.projection)

    def run(input_features: tf.Tensor) -> tf.Tensor:
        hidden = tf.reshape(input_features, [1, features.AUDIO.frames, features.AUDIO.mel_bands, 1])
        for layer in layers:
            hidden = pool(convolve(hidden, layer, "SAME"))
        hidden = convolve(convolve(hidden, across_bands, "VALID"), across_time, "SAME")
        return project(tf.reduce_mean(hidden, [1, 2]), projection)

    return run


def text_in_tensorflow(tower: train.TextTower) -> Callable[[tf.Tensor], tf.Tensor]:
    table = tf.constant(tower.embedding.weight.detach().numpy())
    first, projection = dense(tower.hidden), dense(tower.projection)

    def run(input_ids: tf.Tensor) -> tf.Tensor:
        spelled = tf.reshape(tf.gather(table, input_ids), [1, first[0].shape[0]])
        return project(tf.nn.relu(project(spelled, first)), projection)

    return run


# ---- training inputs for calibration


def spread(count: int, total: int) -> Array:
    return np.linspace(0, total - 1, count).astype(int)


def calibration_images(data: Path) -> Array:
    images = train.load_images(data / "mnist_t10k_first8000.npz", train.TRAINING_IMAGES)
    return images.values.numpy()[spread(CALIBRATION_IMAGES, len(images.values))]


def calibration_recordings(data: Path) -> Array:
    recordings = train.load_recordings(data / "recordings", train.SPEAKERS, train.TRAINING_TAKES)
    chosen = spread(CALIBRATION_RECORDINGS, len(recordings.samples))
    return np.stack([features.audio_features(recordings.samples[index]) for index in chosen])


def calibration_texts() -> Array:
    return train.text_codes(features.DIGIT_WORDS + features.DIGIT_CHARACTERS).numpy()


def towers_of(model: train.TriDigit, data: Path) -> list[Tower]:
    return [
        Tower(
            "image",
            "pixel_values",
            "image_embeds",
            model.image,
            image_in_tensorflow(model.image),
            calibration_images(data),
        ),
        Tower(
            "audio",
            "input_features",
            "audio_embeds",
            model.audio,
            audio_in_tensorflow(model.audio),
            calibration_recordings(data),
        ),
        Tower("text", "input_ids", "text_embeds", model.text, text_in_tensorflow(model.text), calibration_texts()),
    ]


# ---- ONNX


class Calibration(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, tower: Tower) -> None:
        self.items: Iterator[Array] = iter(tower.calibration)
        self.input_name = tower.input_name

    def get_next(self) -> dict[str, Array] | None:
        item = next(self.items, None)
        return None if item is None else {self.input_name: item[np.newaxis]}


def export_onnx(tower: Tower, path: Path) -> None:
    torch.onnx.export(
        tower.module,
        (torch.from_numpy(tower.example()),),
        str(path),
        input_names=[tower.input_name],
        output_names=[tower.output_name],
        dynamic_axes={tower.input_name: {0: "batch"}, tower.output_name: {0: "batch"}},
        opset_version=ONNX_OPSET,
        dynamo=False,  # the tracer writes IR 8, which every runtime listed in README.md reads
    )


def write_onnx_fp16(source: Path, path: Path) -> None:
    """Weights and arithmetic in fp16, float32 at both ends; the converter leaves its casts out of order."""
    model = OnnxModel(convert_float_to_float16(onnx.load(str(source)), keep_io_types=True))
    model.topological_sort()
    onnx.save(model.model, str(path))


def write_onnx_int8(tower: Tower, source: Path, path: Path) -> None:
    """Static QDQ, int8 weights per output channel, int8 activations."""
    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(str(source), str(prepared), skip_optimization=True, skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(path),
            Calibration(tower),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
        )


def write_onnx_set(tower: Tower, folder: Path) -> None:
    plain = folder / f"{tower.name}.onnx"
    export_onnx(tower, plain)
    write_onnx_fp16(plain, folder / f"{tower.name}_fp16.onnx")
    write_onnx_int8(tower, plain, folder / f"{tower.name}_int8.onnx")


# ---- TFLite


def channels_last(values: Array) -> Array:
    """NCHW to NHWC; features and codes have no channel axis and stay as they are."""
    return values.transpose(0, 2, 3, 1) if values.ndim == 4 else values


def tflite_converter(tower: Tower) -> tf.lite.TFLiteConverter:
    example = channels_last(tower.example())
    signature = tf.TensorSpec(example.shape, tf.as_dtype(example.dtype), name=tower.input_name)
    function = tf.function(lambda values: {tower.output_name: tower.tensorflow(values)}, input_signature=[signature])
    return tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()], tf.Module())


def write_tflite(tower: Tower, content: bytes, path: Path) -> None:
    """Write the graph with its tensors named as in ONNX; the converter decorates them."""
    path.write_bytes(content)
    model = flatbuffer_utils.read_model(str(path))
    graph = model.subgraphs[0]
    graph.tensors[graph.inputs[0]].name = tower.input_name.encode()
    graph.tensors[graph.outputs[0]].name = tower.output_name.encode()
    flatbuffer_utils.write_model(model, str(path))


def tflite_fp16(tower: Tower) -> bytes:
    converter = tflite_converter(tower)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_types = [tf.float16]
    return converter.convert()


def tflite_int8(tower: Tower) -> bytes:
    """Integers only, int8 at both ends (the text tower takes int32 codes)."""
    converter = tflite_converter(tower)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([item[np.newaxis]] for item in channels_last(tower.calibration))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    if tower.calibration.dtype == np.float32:
        converter.inference_input_type = tf.int8
    converter.inference_output_type = tf.int8
    return converter.convert()


def write_tflite_set(tower: Tower, folder: Path) -> None:
    write_tflite(tower, tflite_converter(tower).convert(), folder / f"{tower.name}.tflite")
    write_tflite(tower, tflite_fp16(tower), folder / f"{tower.name}_fp16.tflite")
    write_tflite(tower, tflite_int8(tower), folder / f"{tower.name}_int8.tflite")


# ---- golden tensors


def golden_pixels(data: Path) -> NDArray[np.uint8]:
    """Return the first seven among the test pictures."""
    with np.load(data / "mnist_t10k_first8000.npz") as archive:
        labels = archive["labels"][train.TEST_IMAGES]
        return archive["images"][train.TEST_IMAGES][np.flatnonzero(labels == GOLDEN_DIGIT)[0]]


def cosine(left: torch.Tensor, right: torch.Tensor) -> Array:
    return (F.normalize(left) @ F.normalize(right).T).numpy()


@torch.no_grad()
def write_golden(model: train.TriDigit, data: Path, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    picture, recording = folder / "seven.png", folder / "seven.wav"
    Image.fromarray(golden_pixels(data)).save(picture)
    shutil.copyfile(data / "recordings" / f"{GOLDEN_DIGIT}_{GOLDEN_SPEAKER}_0.wav", recording)
    pixel_values = features.image_features(features.read_image(picture))[np.newaxis]
    input_features = features.audio_features(features.read_wave(recording))[np.newaxis]
    input_ids, word_ids = train.text_codes(GOLDEN_TEXTS), train.text_codes(features.DIGIT_WORDS)
    image, audio = model.image(torch.from_numpy(pixel_values)), model.audio(torch.from_numpy(input_features))
    text, words = model.text(input_ids), model.text(word_ids)
    np.savez_compressed(
        folder / "expected.npz",
        pixel_values=pixel_values,
        input_features=input_features,
        texts=np.array(GOLDEN_TEXTS),
        input_ids=input_ids.numpy(),
        image_embeds=image.numpy(),
        audio_embeds=audio.numpy(),
        text_embeds=text.numpy(),
        words=np.array(features.DIGIT_WORDS),
        word_ids=word_ids.numpy(),
        word_embeds=words.numpy(),
        image_text_similarity=cosine(image, text),
        audio_text_similarity=cosine(audio, text),
        image_audio_similarity=cosine(image, audio),
        image_word_similarity=cosine(image, words),
        audio_word_similarity=cosine(audio, words),
        scale=np.float32(model.scale()),
    )


# ---- command


def load_model(checkpoint: Path) -> train.TriDigit:
    model = train.TriDigit()
    model.load_state_dict(torch.load(checkpoint, weights_only=True))
    return model.eval()


def parse_arguments() -> argparse.Namespace:
    here = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with mnist_t10k_first8000.npz and recordings/")
    parser.add_argument("--checkpoint", type=Path, required=True, help="tridigit.pt of train.py")
    parser.add_argument("--output", type=Path, default=here, help="folder for weights/, golden/ and labels.txt")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    weights = arguments.output / "weights"
    weights.mkdir(parents=True, exist_ok=True)
    model = load_model(arguments.checkpoint)
    for tower in towers_of(model, arguments.data):
        write_onnx_set(tower, weights)
        write_tflite_set(tower, weights)
    write_golden(model, arguments.data, arguments.output / "golden")
    (arguments.output / "labels.txt").write_text("\n".join(features.DIGIT_WORDS) + "\n")
    print(f"scale {model.scale().item():.6f}")


if __name__ == "__main__":
    main()
