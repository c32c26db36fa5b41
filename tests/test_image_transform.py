"""Behaviour of image transforms: exact equals the whole resize then the crop, the faster ways stay near, maps map back.

Truth: Pillow's own resize of the whole picture, OpenCV's linear resize (golden/make_linear_golden.py), TensorFlow's
and torchvision's published crop rules, literal pixels.
"""

from __future__ import annotations

import io
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden.make_image_golden import picture
from image_specs import FILTERS, LIMITS, clip_spec, crop, image_spec, levels_spec, pad, resize
from PIL import Image
from PIL import __version__ as pillow_version

from edgekit.errors import InputError, ManifestError
from edgekit.preprocess.frame import Frame
from edgekit.preprocess.geometry import plan, target_size
from edgekit.preprocess.image import transform
from edgekit.preprocess.picture import decode
from edgekit.specs.image import Align, ImageSpec

PILLOW = int(pillow_version.split(".")[0])
SMOOTH = ["bilinear", "bicubic", "lanczos", "box", "hamming"]


def run(spec: ImageSpec, value: Any) -> np.ndarray:
    return transform(spec, decode(spec, value, LIMITS))[0]["pixels"][0]


def whole_then_crop(
    array: np.ndarray, size: tuple[int, int], corner: tuple[int, int], part: tuple[int, int], how: str
) -> Any:
    height, width = size
    top, left = corner
    scaled = Image.fromarray(array).resize((width, height), FILTERS.index(how))
    return np.asarray(scaled)[top : top + part[0], left : left + part[1]]


def drawn_resize(draw: random.Random, *, tallest: int) -> tuple[np.ndarray, Any, Any, Any]:
    """A picture, its new size, and the corner and size of the centre that is cut out of it."""
    height, width = draw.randint(2, tallest), draw.randint(2, 260)
    new_height, new_width = draw.randint(1, 90), draw.randint(1, 90)
    part = draw.randint(1, new_height), draw.randint(1, new_width)
    corner = (new_height - part[0]) // 2, (new_width - part[1]) // 2
    return picture(draw.randrange(1000), height, width), (new_height, new_width), corner, part


@pytest.mark.parametrize("how", [*SMOOTH, "nearest"])
def test_exact_equals_the_whole_resize_then_the_crop(how: str) -> None:
    """300 sizes per filter, to the bit; `pillow_fused` within 1 of 255 of the same."""
    draw = random.Random(how)
    for _ in range(300):
        array, (new_height, new_width), corner, part = drawn_resize(draw, tallest=260)
        height, width = array.shape[:2]
        expected = whole_then_crop(array, (new_height, new_width), corner, part, how)
        steps = resize("stretch", new_height, new_width, filter=how), crop(*part)
        assert np.array_equal(run(levels_spec(*steps), array), expected), (height, width, steps)
        fused = run(levels_spec(steps[0].replace(arithmetic="pillow_fused"), steps[1]), array)
        if how in ("nearest", "box"):
            assert np.array_equal(fused, expected)
        else:
            assert np.abs(fused.astype(int) - expected).max() <= 1, (height, width, steps)


@pytest.mark.parametrize("how", [*SMOOTH, "nearest"])
def test_pillow_matrix_is_a_level_from_pillow_in_few_numbers(how: str) -> None:
    """300 sizes per filter, up and down, tall and wide, one and three channels: at most 1 of 255 from the whole resize
    then the crop, in at most one of ten thousand numbers; bilinear's sums often are halves, which float32 misses: four
    of a thousand; nearest and box are equal. Pillow before 13 has another order."""
    draw = random.Random(f"matrix {how}")
    apart = numbers = 0
    for index in range(300):
        array, (new_height, new_width), corner, part = drawn_resize(draw, tallest=400)
        height, width = array.shape[:2]
        scale = resize("stretch", new_height, new_width, filter=how, arithmetic="pillow_matrix")
        if index % 5 == 0:
            array = array[:, :, :1]
            spec = levels_spec(scale, crop(*part), colour="grey", mean=(0.0,), std=(1.0,))
            found = run(spec, Frame(array, "grey"))
            expected = whole_then_crop(array[:, :, 0], (new_height, new_width), corner, part, how)[:, :, None]
        else:
            found = run(levels_spec(scale, crop(*part)), array)
            expected = whole_then_crop(array, (new_height, new_width), corner, part, how)
        if PILLOW < 13 and height - new_height > max(0, 2 * (width - new_width)):
            continue
        far = np.abs(found.astype(int) - expected)
        assert far.max() <= 1, (height, width, scale)
        apart, numbers = apart + np.count_nonzero(far), numbers + far.size
    assert numbers > 150_000
    assert apart <= {"bilinear": 4e-3, "box": 0.0, "nearest": 0.0}.get(how, 1e-4) * numbers


def test_pillow_matrix_after_whole_number_averages_and_a_reduced_decode() -> None:
    """What comes before the resize is Pillow's own: a thumbnail's `reducing_gap`, a JPEG at half its size."""
    draw = random.Random(11)
    for seed in range(20):
        size = draw.randint(300, 500), draw.randint(300, 500)
        file = io.BytesIO()
        Image.fromarray(picture(seed, *size)).save(file, "JPEG")
        for step in (resize("thumbnail", 40, 56), resize("shortest_edge", 64, 64)):
            whole, fast = (
                run(levels_spec(step.replace(arithmetic=way), decode="scaled"), file.getvalue()).astype(int)
                for way in ("pillow", "pillow_matrix")
            )
            assert np.abs(whole - fast).max() <= 1, (seed, step)


def test_exact_on_photographs_of_every_direction(shared: Path) -> None:
    for name in ("cat.bmp", "hot_dog.jpg", "grace_hopper.bmp"):
        array = np.asarray(Image.open(shared / "data" / "photos" / name).convert("RGB"))
        for turned in (array, array.transpose(1, 0, 2).copy()):
            spec = levels_spec(resize("shortest_edge", 96, 96), crop(80, 88))
            height, width = target_size(spec.steps[0], *turned.shape[:2])
            corner = (height - 80) // 2, (width - 88) // 2
            assert np.array_equal(
                run(spec, turned), whole_then_crop(turned, (height, width), corner, (80, 88), "bicubic")
            )


@pytest.mark.parametrize("how", [*SMOOTH, "nearest"])
def test_matrix_stays_near_pillow(shared: Path, how: str) -> None:
    """Mean below 0.4 and 99 % within 1 of 255. Pillow cuts to 0-255 between its passes, which at hard edges of a
    filter that overshoots is up to 13 levels apart; the others are within 1, nearest is equal."""
    most = {"nearest": 0, "bicubic": 12, "lanczos": 20}.get(how, 1)
    for path in sorted((shared / "data" / "photos").glob("*.[bj]*")):
        for size, part in ((224, 224), (96, 80), (600, 512)):
            steps = resize("shortest_edge", size, size, filter=how), crop(part, part)
            exact = run(levels_spec(*steps), path).astype(int)
            array = np.asarray(Image.open(path).convert("RGB"))
            matrix = run(levels_spec(steps[0].replace(arithmetic="matrix"), steps[1]), array)
            far = np.abs(matrix - exact)
            assert far.max() <= most, (path.name, size)
            assert far.mean() < 0.4
            assert np.percentile(far, 99) <= 1


def test_matrix_gives_the_same_for_a_file_and_for_its_frame() -> None:
    array = picture(3, 90, 120)
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    spec = clip_spec(32, "matrix")
    assert np.array_equal(run(spec, file.getvalue()), run(spec, array))
    grey = clip_spec(32, "matrix", colour="grey", mean=(0.5,), std=(0.5,))
    assert run(grey, file.getvalue()).shape == (1, 32, 32)
    assert np.array_equal(run(grey, file.getvalue()), run(grey, array))


def test_without_antialiasing_it_is_opencvs_and_tensorflows_linear() -> None:
    """Half-pixel centres, two taps a side, edges repeated: within the last rounding of OpenCV's float32 result."""
    golden = np.load(Path(__file__).parent / "golden" / "opencv_linear.npz")
    assert len(golden.files) == 5
    for name in golden.files:
        (height, width), (new_height, new_width) = (map(int, size.split("x")) for size in name.split("_"))
        plain = {"filter": "bilinear", "antialias": False, "arithmetic": "matrix"}
        spec = levels_spec(resize("stretch", new_height, new_width, **plain))
        found = run(spec, picture(7, height, width)).astype(np.float64)
        assert np.abs(found - golden[name]).max() <= 0.5001, name
        cut = levels_spec(resize("stretch", new_height, new_width, **plain), crop(new_height // 2, new_width // 2))
        top, left = (new_height - new_height // 2) // 2, (new_width - new_width // 2) // 2
        part = found[top : top + new_height // 2, left : left + new_width // 2]
        assert np.array_equal(run(cut, picture(7, height, width)), part)


def test_asymmetric_coordinates_are_onnx_runtimes() -> None:
    """ONNX's Resize, `linear` and `asymmetric`, up and down: within 0.51 of its result, whose places are float32."""
    import onnxruntime
    from onnx import TensorProto, helper

    for number, ((height, width), (new_height, new_width)) in enumerate(
        [((40, 60), (16, 16)), ((31, 17), (9, 30)), ((20, 20), (33, 47)), ((480, 640), (128, 128)), ((9, 5), (9, 11))]
    ):
        node = helper.make_node(
            "Resize", ["x", "", "", "size"], ["y"], mode="linear", coordinate_transformation_mode="asymmetric"
        )
        size = helper.make_tensor("size", TensorProto.INT64, [4], [1, 3, new_height, new_width])
        ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, None, None]) for name in "xy"]
        graph = helper.make_graph([node], "resize", ports[:1], ports[1:], [size])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        source = picture(number, height, width)
        planes = source.transpose(2, 0, 1)[None].astype(np.float32)
        (expected,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": planes})
        plain = {"filter": "bilinear", "antialias": False, "arithmetic": "matrix", "coordinates": "asymmetric"}
        found = run(levels_spec(resize("stretch", new_height, new_width, **plain)), source).astype(np.float64)
        assert np.abs(found - expected[0].transpose(1, 2, 0)).max() <= 0.51, (height, width)


def test_scaled_decode_is_near_the_exact_one(shared: Path) -> None:
    """At least 2 x the target is decoded: mean <= 0.45 (0.8 at 1/8), all within 10 of 255; upright and turned."""
    for path in sorted((shared / "data" / "photos").glob("*.jpg")):
        for orientation in (1, 2, 3, 6, 8):
            with Image.open(path) as opened:
                marked = opened.convert("RGB")
            tags = Image.Exif()
            tags[0x0112] = orientation
            file = io.BytesIO()
            marked.resize((1021, 767)).save(file, "JPEG", quality=92, exif=tags)
            for size in (40, 100, 250):
                exact = levels_spec(resize("shortest_edge", size, size), crop(size, size))
                scaled = exact.replace(decode="scaled")
                decoded = decode(scaled, file.getvalue(), LIMITS)
                least = {40: 8, 100: 2, 250: 1}[size]
                assert max(decoded.pixels.size) <= -(-1021 // least)
                tensors, where = transform(scaled, decoded)
                expected, expected_where = transform(exact, decode(exact, file.getvalue(), LIMITS))
                assert where == expected_where
                far = np.abs(tensors["pixels"].astype(int) - expected["pixels"])
                assert far.mean() <= (0.8 if size == 40 else 0.45), (path.name, orientation, size)
                assert far.max() <= 10


def test_scaled_decode_of_other_formats_is_exact() -> None:
    file = io.BytesIO()
    Image.fromarray(picture(4, 400, 500)).save(file, "PNG")
    spec = clip_spec(32)
    assert np.array_equal(run(spec.replace(decode="scaled"), file.getvalue()), run(spec, file.getvalue()))


def test_crop_and_pad_place_pixels_as_the_originals_do() -> None:
    """transformers floors, torchvision rounds halves to even, TensorFlow cuts a fraction; a small picture is padded."""
    line = np.arange(1, 8, dtype=np.uint8)[None, :, None].repeat(3, 2)  # 1 2 3 4 5 6 7

    def shown(*steps: Any) -> list[int]:
        return run(levels_spec(*steps), line)[0, :, 0].tolist()

    assert shown(crop(1, 4)) == [2, 3, 4, 5]
    assert shown(crop(1, 4, rounding="nearest_even")) == [3, 4, 5, 6]  # round(1.5) = 2
    assert shown(crop(1, 2, rounding="nearest_even")) == [3, 4]  # round(2.5) = 2
    assert shown(crop(1, 10, fill=9.0)) == [9, 9, 1, 2, 3, 4, 5, 6, 7, 9]
    assert shown(crop(1, 10, fill=9.0, rounding="nearest_even")) == [9, 1, 2, 3, 4, 5, 6, 7, 9, 9]
    assert shown(crop(0, 0, fraction=0.5)) == [2, 3, 4, 5, 6]  # 7 - 2 x int(1.75)
    assert shown(pad("size", 1, 9, fill=(5.0, 6.0, 7.0))) == [5, 1, 2, 3, 4, 5, 6, 7, 5]
    assert shown(pad("size", 1, 10, position="top_left")) == [1, 2, 3, 4, 5, 6, 7, 0, 0, 0]
    assert run(levels_spec(pad("multiple", multiple_of=4)), line)[1, :, 0].tolist() == [1, 2, 3, 4, 5, 6, 7, 0]
    square = run(levels_spec(pad("square", fill=(5.0, 6.0, 7.0))), line)
    assert square.shape == (7, 7, 3)
    assert square[3, :, 0].tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert square[2, 0].tolist() == [5, 6, 7]
    with pytest.raises(InputError, match="cannot be padded to 1 x 6"):
        shown(pad("size", 1, 6))
    for steps in ((crop(3, 10, fill=9.0),), (pad("square", fill=(5.0, 6.0, 7.0)),), (crop(1, 4),)):
        same = resize("stretch", 1, 7, filter="nearest")
        image = run(levels_spec(*steps, same.replace(height=3, width=3)), line)
        matrix = run(levels_spec(*steps, same.replace(height=3, width=3, arithmetic="matrix")), line)
        assert np.array_equal(image, matrix)


@pytest.mark.parametrize("size", [(900, 40), (40, 900), (300, 200), (1000, 333)])
def test_thumbnail_is_pillows_with_a_reducing_gap(size: tuple[int, int]) -> None:
    """Donut's: no side above the target, a large reduction averaged by whole factors first."""
    array = picture(11, *size)
    step = resize("thumbnail", 60, 50)
    height, width = target_size(step, *size)
    expected = Image.fromarray(array).resize((width, height), Image.Resampling.BICUBIC, reducing_gap=2.0)
    assert np.array_equal(run(levels_spec(step), array), np.asarray(expected))


def test_letterbox_and_its_mask() -> None:
    """`fit` and a centred pad of 114, as YOLO's letterbox; the mask is 1 where there is picture."""
    steps = resize("fit", 64, 64, rounding="nearest_even"), pad("size", 64, 64, fill=(114.0, 114.0, 114.0))
    spec = levels_spec(*steps, mask="mask")
    tensors, where = transform(spec, decode(spec, picture(1, 50, 100), LIMITS))
    assert tensors["pixels"].shape == (1, 64, 64, 3)
    assert (tensors["pixels"][0, :16] == 114).all()
    assert tensors["mask"].dtype == np.int64
    assert tensors["mask"].shape == (1, 64, 64)
    assert tensors["mask"].sum() == 32 * 64
    assert (where.content_top, where.content_left, where.content_height, where.content_width) == (16, 0, 32, 64)
    assert tensors["mask"][0, 16:48].all()


def test_normalized_pads_of_every_kind() -> None:
    """A pad in normalised units holds exactly its value, in either layout and type."""
    for layout in ("nchw", "nhwc"):
        for dtype in ("float32", "float16"):
            step = pad("size", 8, 9, position="top_left", fill=(0.5, -1.0, 2.0), stage="normalized")
            spec = image_spec(step, layout=layout, dtype=dtype, mean=(0.1, 0.2, 0.3))
            tensor = run(spec, picture(1, 5, 6))
            planes = tensor if layout == "nchw" else tensor.transpose(2, 0, 1)
            assert tensor.dtype == dtype
            assert [set(plane[5:].ravel().tolist()) for plane in planes] == [{0.5}, {-1.0}, {2.0}]
            plain = run(image_spec(layout=layout, dtype=dtype, mean=(0.1, 0.2, 0.3)), picture(1, 5, 6))
            inner = planes[:, :5, :6]
            assert np.array_equal(inner, plain if layout == "nchw" else plain.transpose(2, 0, 1))


PIPELINES = {
    "clip": (resize("shortest_edge", 60, 60, filter="bilinear"), crop(60, 60)),
    "letterbox": (resize("fit", 64, 48, filter="bilinear"), pad("size", 64, 48)),
    "crop then resize": (crop(0, 0, fraction=0.8), resize("stretch", 40, 50, filter="bilinear")),
    "pad then resize": (pad("square"), resize("stretch", 50, 50, filter="bilinear")),
    "small crop": (crop(300, 300),),
    "turned": (
        Align(step="align_long_axis", height=60, width=30),
        resize("shortest_edge", 30, 30, filter="bilinear"),
        resize("thumbnail", 60, 30, filter="bilinear"),
        pad("size", 60, 30),
    ),
}


@pytest.mark.parametrize("name", PIPELINES)
def test_coordinates_map_back(name: str) -> None:
    """A picture whose levels are its own coordinates: each content pixel's level is where the map says it is from."""
    height, width = 120, 200
    y, x = np.mgrid[0:height, 0:width] + 0.5
    array = np.stack([x, y, np.full_like(x, 250)], axis=2).astype(np.uint8)
    spec = levels_spec(*PIPELINES[name])
    tensors, where = transform(spec, decode(spec, array, LIMITS))
    tensor = tensors["pixels"][0].astype(float)
    assert (where.height, where.width) == (height, width)
    rows = slice(where.content_top, where.content_top + where.content_height)
    columns = slice(where.content_left, where.content_left + where.content_width)
    across, down = np.meshgrid(np.arange(tensor.shape[1]) + 0.5, np.arange(tensor.shape[0]) + 0.5)
    from_x, from_y = across * where.scale_x + where.offset_x, down * where.scale_y + where.offset_y
    if where.turned:
        from_x, from_y = from_y, height - from_x
    inner = (slice(rows.start + 1, rows.stop - 1), slice(columns.start + 1, columns.stop - 1))
    assert (tensor[inner][..., 2] == 250).all()
    assert np.abs(tensor[inner][..., 0] + 0.5 - from_x[inner]).max() < 2.0
    assert np.abs(tensor[inner][..., 1] + 0.5 - from_y[inner]).max() < 2.0
    outside = np.ones(tensor.shape[:2], bool)
    outside[rows, columns] = False
    assert (tensor[outside] <= 40).all()  # a filter may carry the edge over
    assert np.count_nonzero(tensor[outside]) <= 0.1 * tensor.size


def test_published_sizes() -> None:
    """Sizes that the originals document or compute for well-known pictures."""
    detr = resize("shortest_edge", 800, 800, longest=1333)
    assert target_size(detr, 480, 640) == (800, 1066)  # facebookresearch/detr on a COCO picture
    assert target_size(detr, 427, 640) == (800, 1199)
    assert target_size(detr, 300, 1000) == (400, 1333)
    assert target_size(resize("shortest_edge", 224, 224), 480, 640) == (224, 298)
    assert target_size(resize("shortest_edge", 224, 224), 655, 450) == (326, 224)
    dpt = resize("least_change", 384, 384, multiple_of=32, rounding="nearest_even")
    assert target_size(dpt, 480, 640) == (384, 512)
    depth_anything = resize("least_change", 518, 518, multiple_of=14, rounding="nearest_even")
    assert target_size(depth_anything, 480, 640) == (518, 686)
    assert target_size(resize("longest_edge", 512, 512), 480, 640) == (384, 512)
    assert target_size(resize("cover", 100, 100, rounding="ceil"), 480, 640) == (100, 134)
    assert plan((resize("fit", 64, 64, shrink_only=True),), 10, 20) == []


def test_meaningless_steps_are_refused_by_key() -> None:
    plain = resize("stretch", 8, 8)
    normalized = pad("size", 8, 8, stage="normalized")
    for key, make in {
        "antialias": lambda: plain.replace(antialias=False),
        "coordinates": lambda: plain.replace(coordinates="asymmetric"),
        "longest": lambda: plain.replace(longest=9),
        "width": lambda: plain.replace(mode="shortest_edge", width=9),
        "height": lambda: plain.replace(height=0),
        "fraction": lambda: crop(0, 0, fraction=1.5),
        "fill": lambda: crop(8, 8, fill=0.5),
        "fill[1]": lambda: pad("size", 8, 8, fill=(0.0, 256.0, 0.0)),
        "multiple_of": lambda: pad("multiple", multiple_of=0),
        "steps[0].stage": lambda: image_spec(normalized, plain),
        "steps[0].fill": lambda: image_spec(pad("square", fill=(0.0,))),
        "steps[1]": lambda: image_spec(plain, Align(step="align_long_axis", height=1, width=2)),
        "mean": lambda: image_spec(mean=(0.0,)),
        "std": lambda: image_spec(std=(1.0, 0.0, 1.0)),
        "quantization": lambda: image_spec(dtype="uint8"),
    }.items():
        with pytest.raises(ManifestError) as caught:
            make()
        assert caught.value.key == key


def test_eight_threads_give_the_same_bits() -> None:
    draw = random.Random(5)
    specs = [clip_spec(48, "pillow_matrix"), clip_spec(48, "matrix"), clip_spec(48, "pillow_fused", decode="scaled")]
    work = []
    for index in range(24):
        file = io.BytesIO()
        Image.fromarray(picture(index, draw.randint(60, 300), draw.randint(60, 300))).save(
            file, ("JPEG", "PNG", "WEBP")[index % 3]
        )
        work.append((specs[index // 3 % 3], file.getvalue()))
    expected = [run(*item) for item in work]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(4):
            for found, wanted in zip(pool.map(lambda item: run(*item), work), expected):
                assert np.array_equal(found, wanted)
