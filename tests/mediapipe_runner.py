"""Answers one JSON request on stdin with MediaPipe Tasks; run by its own interpreter, see mediapipe_env.sh."""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np


def classify_images(request: dict[str, Any]) -> Any:
    import mediapipe as mp
    from mediapipe.tasks.python import BaseOptions, vision

    options = vision.ImageClassifierOptions(base_options=BaseOptions(model_asset_path=request["model"]), max_results=-1)
    with vision.ImageClassifier.create_from_options(options) as classifier:
        found = []
        for file in request["arrays"]:
            image = mp.Image(image_format=mp.ImageFormat.SRGB, data=np.load(file))
            categories = classifier.classify(image).classifications[0].categories
            found.append({c.category_name: c.score for c in categories})
        return found


def classify_sounds(request: dict[str, Any]) -> Any:
    from mediapipe.tasks.python import BaseOptions, audio
    from mediapipe.tasks.python.components import containers

    options = audio.AudioClassifierOptions(base_options=BaseOptions(model_asset_path=request["model"]), max_results=-1)
    with audio.AudioClassifier.create_from_options(options) as classifier:
        found = []
        for file, rate_hz in request["arrays"]:
            clip = containers.AudioData.create_from_array(np.load(file), rate_hz)
            windows = classifier.classify(clip)
            found.append([{c.category_name: c.score for c in w.classifications[0].categories} for w in windows])
        return found


def detect_faces(request: dict[str, Any]) -> Any:
    import mediapipe as mp
    from mediapipe.tasks.python import BaseOptions, vision

    options = vision.FaceDetectorOptions(base_options=BaseOptions(model_asset_path=request["model"]))
    with vision.FaceDetector.create_from_options(options) as detector:
        found = []
        for file in request["arrays"]:
            pixels = np.load(file)
            size = pixels.shape[1], pixels.shape[0]
            faces = detector.detect(mp.Image(image_format=mp.ImageFormat.SRGB, data=pixels)).detections
            found.append(
                [
                    {
                        "score": face.categories[0].score,
                        "box": [b.origin_x, b.origin_y, b.origin_x + b.width, b.origin_y + b.height],
                        "keypoints": [[k.x * size[0], k.y * size[1]] for k in face.keypoints],
                    }
                    for face in faces
                    for b in [face.bounding_box]
                ]
            )
        return found


def embed_images(request: dict[str, Any]) -> Any:
    import mediapipe as mp
    from mediapipe.tasks.python import BaseOptions, vision

    options = vision.ImageEmbedderOptions(base_options=BaseOptions(model_asset_path=request["model"]))
    with vision.ImageEmbedder.create_from_options(options) as embedder:
        found = []
        for file in request["arrays"]:
            image = mp.Image(image_format=mp.ImageFormat.SRGB, data=np.load(file))
            found.append(np.asarray(embedder.embed(image).embeddings[0].embedding, np.float64).tolist())
        return found


def metadata(request: dict[str, Any]) -> Any:
    """The metadata unpacked by the reader that flatc generated from MediaPipe's own schema."""
    from mediapipe.tasks.metadata import metadata_schema_py_generated as schema

    with open(request["metadata"], "rb") as file:
        data = file.read()
    return {
        "identified": bool(schema.ModelMetadata.ModelMetadataBufferHasIdentifier(data, 0)),
        "table": _plain(schema.ModelMetadataT.InitFromPackedBuf(data, 0)),
    }


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, list):
        return [_plain(v) for v in value]
    if hasattr(value, "__dict__"):
        return {"": type(value).__name__, **{name: _plain(v) for name, v in vars(value).items() if v is not None}}
    return value


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    try:
        known = {f.__name__: f for f in (classify_images, classify_sounds, detect_faces, embed_images, metadata)}
        answer = {"answer": known[asked["do"]](asked)}
    except (ValueError, RuntimeError) as error:
        answer = {"error": str(error)}
    json.dump(answer, sys.stdout)
