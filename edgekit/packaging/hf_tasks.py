"""What a Hugging Face folder is for: its task, and how the graph's outputs become that task's result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgekit.errors import InputError
from edgekit.packaging.draft import Content
from edgekit.packaging.hf_graphs import Side, Staged, find_output
from edgekit.packaging.hf_text import TOKENIZER, read_ctc
from edgekit.packaging.hub_folder import HubFolder
from edgekit.packaging.questions import Questions
from edgekit.packaging.sentence_head import EMBEDDING, STATES, poolings
from edgekit.runtimes.graph import TensorSpec
from edgekit.specs.audio import AudioSpec
from edgekit.specs.post import (
    Classification,
    Ctc,
    Depth,
    Detections,
    Embeddings,
    EmbeddingSource,
    Entities,
    Pooling,
    Postprocess,
    Segmentation,
)

LABELS = "labels.txt"
TOP_CLASSES = 1000
"""A classification result lists all its classes up to this many, of more the first hundred."""
THRESHOLD = 0.2
"""Of a detection's score unless `--set threshold=` says otherwise: a setting, not a fact of the model."""

SIMILARITY = ("zero-shot-image-classification", "zero-shot-audio-classification")
SIDES: dict[str, Side] = {
    "image-classification": "image",
    "text-classification": "text",
    "token-classification": "text",
    "audio-classification": "audio",
    "automatic-speech-recognition": "audio",
    "object-detection": "image",
    "semantic-segmentation": "image",
    "depth-estimation": "image",
}
"""What each task of a single graph is given."""
TEXT_TO_TEXT = ("text2text-generation", "translation", "summarization")
GENERATING = ("automatic-speech-recognition", "image-to-text", *TEXT_TO_TEXT, "text-generation")
TASKS = (*SIDES, "image-to-text", *TEXT_TO_TEXT, "text-generation", "feature-extraction", *SIMILARITY)

_BY_ARCHITECTURE = (
    ("ForImageClassification", "image-classification"),
    ("ForImageClassificationWithTeacher", "image-classification"),
    ("ForAudioClassification", "audio-classification"),
    ("ForTokenClassification", "token-classification"),
    ("ForCTC", "automatic-speech-recognition"),
    ("ForObjectDetection", "object-detection"),
    ("ForSemanticSegmentation", "semantic-segmentation"),
    ("ForDepthEstimation", "depth-estimation"),
    ("VisionEncoderDecoderModel", "image-to-text"),
    ("ForVision2Seq", "image-to-text"),
    ("SpeechEncoderDecoderModel", "automatic-speech-recognition"),
    ("ForSpeechSeq2Seq", "automatic-speech-recognition"),
    ("MarianMTModel", "text2text-generation"),
    ("EncoderDecoderModel", "text2text-generation"),
    ("ForCausalLM", "text-generation"),
    ("GPT2LMHeadModel", "text-generation"),
    ("OpenAIGPTLMHeadModel", "text-generation"),
)
"""Task by the end of `architectures[0]`, the first that fits."""
_SPEECH_GENERATORS = ("whisper", "moonshine", "speech_to_text")
_NOT_DONE = (
    ("ForMaskedLM", "fill-mask"),
    ("ForQuestionAnswering", "question-answering"),
    ("ForMultipleChoice", "multiple-choice"),
    ("ForUniversalSegmentation", "image-segmentation"),
    ("ForInstanceSegmentation", "image-segmentation"),
    ("ForPanopticSegmentation", "image-segmentation"),
    ("ForImageSegmentation", "image-segmentation"),
    ("ForMaskGeneration", "mask-generation"),
    ("OwlViTForObjectDetection", "zero-shot-object-detection"),
    ("Owlv2ForObjectDetection", "zero-shot-object-detection"),
    ("GroundingDinoForObjectDetection", "zero-shot-object-detection"),
    ("ForTextToSpeech", "text-to-audio"),
    ("ForSpeechToSpeech", "audio-to-audio"),
    ("ForAudioFrameClassification", "audio-frame-classification"),
    ("ForXVector", "audio-xvector"),
    ("ForVideoClassification", "video-classification"),
    ("ForKeypointDetection", "keypoint-detection"),
    ("ForPoseEstimation", "keypoint-detection"),
    ("ForImageToImage", "image-to-image"),
    ("ForImageSuperResolution", "image-to-image"),
    ("ForMaskedImageModeling", "masked image modelling"),
    ("ForPreTraining", "pre-training"),
)
"""Tasks that transformers has and this package does not, by the end of the architecture's name."""
_READERS_OF_BOTH = (
    "florence2", "gemma3", "idefics", "idefics2", "idefics3", "internvl", "llava", "llava_next", "llava_onevision",
    "mllama", "paligemma", "qwen2_vl", "qwen2_5_vl", "smolvlm", "kosmos-2",
)  # fmt: skip
"""Models that answer to a picture and a text together (image-text-to-text), by model_type."""
_TEXT_WRITERS = (
    "bart", "bigbird_pegasus", "blenderbot", "blenderbot-small", "led", "longt5", "m2m_100", "marian", "mbart", "mt5",
    "mvp", "nllb-moe", "pegasus", "pegasus_x", "plbart", "prophetnet", "switch_transformers", "t5", "umt5",
)  # fmt: skip
_PICTURE_READERS = ("blip", "pix2struct")
_AUDIO_MODELS = ("wav2vec2", "hubert", "wavlm", "unispeech", "sew", "data2vec-audio", "whisper", "audio-spectrogram")
_SEVERAL_SIDES = {
    "clip": SIMILARITY[0],
    "siglip": SIMILARITY[0],
    "siglip2": SIMILARITY[0],
    "chinese_clip": SIMILARITY[0],
    "altclip": SIMILARITY[0],
    "metaclip_2": SIMILARITY[0],
    "clap": SIMILARITY[1],
}
"""Task by model_type where the architecture is the bare model of two towers."""


def decide_task(folder: HubFolder, asked: str | None) -> tuple[str, str]:
    """The task and a note that says why. Raises InputError for one that is unknown or cannot be derived."""
    if asked is not None:
        if asked not in TASKS:
            raise InputError(f"no task '{asked}'", hint=f"one of: {', '.join(TASKS)}")
        return asked, f"task {asked}: asked for"
    if folder.modules:
        return "feature-extraction", "task feature-extraction: modules.json is sentence-transformers'"
    names = folder.config.get("architectures")
    architecture = names[0] if isinstance(names, list) and names and isinstance(names[0], str) else ""
    model_type = str(folder.config.get("model_type", ""))
    _refuse_undone(folder, architecture, model_type)
    task = _task_of(architecture, model_type)
    if task is None:
        what = f"architecture '{architecture}'" if architecture else "config.json names no architecture"
        raise InputError(f"{folder.name}: {what}: its task is not known", hint=f"--task, one of: {', '.join(TASKS)}")
    return task, f"task {task}: config.json's architecture is {architecture}"


def _refuse_undone(folder: HubFolder, architecture: str, model_type: str) -> None:
    undone = next((task for ending, task in _NOT_DONE if architecture.endswith(ending)), None)
    if undone is None and model_type in _READERS_OF_BOTH and not architecture.endswith("Model"):
        undone = "image-text-to-text"
    if undone is not None:
        raise InputError(
            f"{folder.name}: config.json's architecture {architecture} is for {undone}, which is no task here",
            hint=f"another use of its graph: --task, one of: {', '.join(TASKS)}",
        )


def _task_of(architecture: str, model_type: str) -> str | None:
    for ending, task in _BY_ARCHITECTURE:
        if architecture.endswith(ending):
            return task
    if architecture.endswith("ForSequenceClassification"):
        return "audio-classification" if model_type.startswith(_AUDIO_MODELS) else "text-classification"
    if architecture.endswith("ForConditionalGeneration"):
        if model_type in _SPEECH_GENERATORS:
            return "automatic-speech-recognition"
        if model_type in _PICTURE_READERS:
            return "image-to-text"
        return "text2text-generation" if model_type in _TEXT_WRITERS else None
    if architecture.endswith(("Model", "ModelWithProjection")):
        return _SEVERAL_SIDES.get(model_type, "feature-extraction")
    return None


def read_labels(folder: HubFolder, classes: int, files: dict[str, Content]) -> list[str]:
    """The labels by class; `classes` -1 takes the config's number. Written to labels.txt.

    Without id2label they are LABEL_0, LABEL_1, ..., transformers' own (PretrainedConfig). Raises InputError when the
    config contradicts the graph.
    """
    table = folder.config.get("id2label")
    if table is None:
        count = folder.config.get("num_labels", classes)
        if not isinstance(count, int) or count < 1:
            raise InputError(f"{folder.name}: config.json has no id2label, and the graph does not say how many classes")
        table = {str(i): f"LABEL_{i}" for i in range(count)}
    if not isinstance(table, dict) or sorted(table, key=_number) != [str(i) for i in range(len(table))]:
        raise InputError(f"{folder.name}: config.json's id2label is no table of 0, 1, 2, ... to labels")
    labels = [" ".join(str(table[str(i)]).split()) for i in range(len(table))]
    if classes not in (-1, len(labels)):
        raise InputError(f"{folder.name}: config.json has {len(labels)} labels, the graph gives {classes} classes")
    data = "".join(f"{label}\n" for label in labels)
    if len(data.splitlines()) != len(labels):
        raise InputError(f"{folder.name}: a label of config.json's id2label has a line break in it")
    files[LABELS] = data.encode()
    return labels


def _number(key: str) -> int:
    return int(key) if key.isdigit() else -1


def read_postprocess(
    task: str, folder: HubFolder, staged: Staged, spec: Any, files: dict[str, Content], ask: Questions
) -> tuple[Postprocess, dict[str, TensorSpec]]:
    """The task's record, and the outputs it reads: value -> the graph's tensor. spec: the graph's input."""
    if task == "object-detection":
        return _detections(folder, staged, files, ask)
    if task == "depth-estimation":
        depth = find_output(staged, ("predicted_depth",), "the depth", ask)
        return Depth(task="depth", value="predicted_depth", image="image", resize="bicubic"), {"predicted_depth": depth}
    logits = find_output(staged, ("logits",), "the logits", ask)
    outputs = {"logits": logits}
    if task == "automatic-speech-recognition":
        return _ctc(folder, logits, spec, files), outputs
    if task == "semantic-segmentation":
        read_labels(folder, logits.shape[1] if len(logits.shape) == 4 else -1, files)
        return Segmentation(task="segmentation", value="logits", image="image", labels=LABELS), outputs
    labels = read_labels(folder, logits.shape[-1] if logits.shape else -1, files)
    if task == "token-classification":
        aggregation = ask.given("aggregation") or "simple"
        if aggregation not in ("simple", "first", "average", "max"):
            raise InputError(f"aggregation: expected simple, first, average or max, got '{aggregation}'")
        return (
            Entities(
                task="entities",
                value="logits",
                text="text",
                aggregation=aggregation,  # type: ignore[arg-type]  # checked above
                outside="O",  # TokenClassificationPipeline's ignore_labels
                labels=LABELS,
                tokenizer=TOKENIZER,
            ),
            outputs,
        )
    return _classification(task, folder, labels), outputs


def _classification(task: str, folder: HubFolder, labels: Sequence[str]) -> Classification:
    """The activation as transformers' pipelines choose it (text_classification.py, image_classification.py)."""
    problem = folder.config.get("problem_type")
    if task == "audio-classification":
        activation = "softmax"
    elif problem == "regression":
        activation = "none"
    elif problem == "multi_label_classification" or len(labels) == 1:
        activation = "sigmoid"
    else:
        activation = "softmax"
    return Classification(
        task="classification",
        value="logits",
        activation=activation,  # type: ignore[arg-type]  # one of three
        aggregate="none",
        labels=LABELS,
        top_k=0 if len(labels) <= TOP_CLASSES else 100,
    )


def _detections(
    folder: HubFolder, staged: Staged, files: dict[str, Content], ask: Questions
) -> tuple[Postprocess, dict[str, TensorSpec]]:
    logits = find_output(staged, ("logits",), "the class logits", ask)
    boxes = find_output(staged, ("pred_boxes",), "the boxes", ask)
    model_type = str(folder.config.get("model_type", ""))
    no_object = model_type in ("detr", "yolos", "table-transformer")
    focal = {"rt_detr": 0, "rt_detr_v2": 0, "d_fine": 0, "deformable_detr": 100, "conditional_detr": 100}
    if not no_object and model_type not in focal:
        answer = ask.choice("scoring", ("softmax_no_object", "sigmoid_top"), "how class logits become scores")
        no_object = answer == "softmax_no_object"
    classes = logits.shape[-1] - int(no_object) if logits.shape and logits.shape[-1] > 0 else -1
    read_labels(folder, classes, files)
    given = ask.given("threshold")
    try:
        threshold = THRESHOLD if given is None else float(given)
    except ValueError:
        raise InputError(f"threshold: expected a number from 0 to 1, got '{given}'") from None
    post = Detections(
        task="detections",
        boxes="pred_boxes",
        logits="logits",
        image="image",
        scoring="softmax_no_object" if no_object else "sigmoid_top",
        format="cxcywh",
        unit="picture",
        labels=LABELS,
        threshold=threshold,
        top_k=0 if no_object else focal.get(model_type, 0),
        anchors=None,
        suppression=None,
    )
    return post, {"logits": logits, "pred_boxes": boxes}


def _ctc(folder: HubFolder, logits: TensorSpec, spec: AudioSpec, files: dict[str, Content]) -> Ctc:
    window = spec.windows.samples if spec.windows is not None else 0
    ctc = read_ctc(folder, "logits", spec.rate_hz, window, files)
    expected = folder.config.get("vocab_size")
    if logits.shape and logits.shape[-1] > 0 and isinstance(expected, int) and expected != logits.shape[-1]:
        raise InputError(
            f"{folder.name}: config.json's vocab_size is {expected}, the graph gives {logits.shape[-1]} ids"
        )
    return ctc


def states_of(folder: HubFolder, staged: Staged, ask: Questions) -> TensorSpec | None:
    """The output that holds the states of the tokens; None for a graph that makes the whole embedding itself."""
    if any(tensor.name == EMBEDDING for tensor in staged.tensors.outputs):
        return None
    return find_output(staged, (STATES, "token_embeddings"), "the tokens' states", ask)


def embedding_source(
    folder: HubFolder, staged: Staged, side: Side, ask: Questions
) -> tuple[EmbeddingSource, TensorSpec, bool, str]:
    """Where one input's embedding comes from, its tensor, whether it is normalised, and a note."""
    whole = {"image": ("image_embeds",), "text": ("sentence_embedding", "text_embeds"), "audio": ("audio_embeds",)}
    names = [*whole[side], *(("pooler_output",) if side != "text" else ()), "last_hidden_state", "token_embeddings"]
    tensor = find_output(staged, names, f"the {side}'s embedding or its tokens' states", ask)
    name = tensor.name if tensor.name in names else f"{side}_embeds" if len(tensor.shape) == 2 else "last_hidden_state"
    normalizes = _normalizes(folder, ask)
    if len(tensor.shape) == 2:
        return EmbeddingSource(value=name, pooling=None), tensor, normalizes[0], f"embedding: {name}{normalizes[1]}"
    mode, why = _pooling(folder, side, ask)
    mask = "attention_mask" if side == "text" and "attention_mask" in staged.inputs else None
    pooling = Pooling(mode=mode, mask=mask)  # type: ignore[arg-type]  # one of four
    return EmbeddingSource(value=name, pooling=pooling), tensor, normalizes[0], f"embedding: {why}{normalizes[1]}"


def check_modules(folder: HubFolder) -> None:
    """Refuse a module of sentence-transformers that is not known, or one behind the normalisation."""
    kinds = [str(m["type"]).rsplit(".", 1)[-1] for m in folder.modules]
    unknown = [kind for kind in kinds if kind not in _MODULES]
    if unknown:
        raise InputError(f"{folder.name}: modules.json has {unknown[0]}, which is not supported")
    if "Normalize" in kinds[:-1]:
        raise InputError(f"{folder.name}: modules.json has {kinds[-1]} behind Normalize, which is not supported")


def headed_embedding(folder: HubFolder, ask: Questions) -> tuple[EmbeddingSource, bool, str]:
    """Where the embedding of a model with modules of its own comes from, whether it is normalised, and a note."""
    normal, how = _normalizes(folder, ask)
    return EmbeddingSource(value=EMBEDDING, pooling=None), normal, f"embedding: by modules.json{how}"


def _normalizes(folder: HubFolder, ask: Questions) -> tuple[bool, str]:
    given = ask.given("normalize")
    if given is not None:
        if given not in ("true", "false"):
            raise InputError(f"normalize: expected true or false, got '{given}'")
        return given == "true", ", as answered"
    if folder.modules:
        normal = any(str(m["type"]).endswith(".Normalize") for m in folder.modules)
        return normal, ", of length 1" if normal else ""
    return True, ", of length 1 (--set normalize=false leaves it)"


def _pooling(folder: HubFolder, side: Side, ask: Questions) -> tuple[str, str]:
    """How token states become one vector: by 1_Pooling/config.json, by the person, or as sentence-transformers does."""
    given = ask.given("pooling")
    if given is not None:
        if given not in ("mean", "cls", "last", "max"):
            raise InputError(f"pooling: expected mean, cls, last or max, got '{given}'")
        return given, f"{given} over the tokens, as answered"
    if folder.pooling:
        mode = poolings(folder.pooling)[0]
        return mode, f"{mode} over the tokens (1_Pooling/config.json)"
    if side != "text":
        return ask.choice("pooling", ("cls", "mean", "max"), "how token states become one vector"), "as answered"
    return "mean", "mean over the tokens, sentence-transformers' rule for a folder without modules.json"


_MODULES = ("Transformer", "Pooling", "Dense", "Normalize")


def make_embeddings(sources: dict[str, EmbeddingSource], normalize: bool) -> Embeddings:
    """The record of a feature-extraction bundle."""
    return Embeddings(task="embedding", sources=sources, normalize=normalize)
