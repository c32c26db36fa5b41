"""Batches, workers and providers: more at once gives the same answers, and what is asked for is what runs."""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from packing import SEVEN_PNG, TRIDIGIT, host_target, quiet

from edgekit.errors import InputError, ProviderInactive
from edgekit.packaging.build import build
from edgekit.packaging.recipe import read_recipe
from edgekit.predictor import load
from edgekit.specs.post import Raw


@pytest.fixture(scope="module", params=["fp32", "tflite-fp32"])
def tower(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tridigit's image tower with raw outputs: free batch axis as ONNX, fixed at 1 as TFLite."""
    draft = read_recipe(TRIDIGIT / "recipe.toml", request.param, host_target(), [], quiet)
    graph = next(g for g in draft.graphs if g.role == "image")
    output = tmp_path_factory.mktemp("tower") / "tower.edgekit"
    alone = draft._replace(
        inputs={"image": draft.inputs["image"]},
        graphs=(graph,),
        postprocess=Raw(task="raw", values=("image_embeds",)),
        files={graph.file: draft.files[graph.file]},
        samples=(),
    )
    build(alone, host_target(), output)
    return output


def pictures(count: int) -> list[dict[str, np.ndarray]]:
    source = np.random.RandomState(5)
    sizes = source.randint(10, 60, (count, 2))
    return [{"image": source.randint(0, 256, (h, w, 3)).astype(np.uint8)} for h, w in sizes]


def test_a_batch_gives_what_its_items_give(tower: Path) -> None:
    """40 pictures of changing sizes in one batch: each result is predict's, to the last digits."""
    with load(tower) as predictor:
        items = pictures(40)
        for result, item in zip(predictor.predict_batch(items), items):
            alone = predictor.predict(**item)
            assert result.tensors["image_embeds"].shape == (1, 64)
            np.testing.assert_allclose(result.tensors["image_embeds"], alone.tensors["image_embeds"], atol=1e-5)
            assert set(result.timings) == set(alone.timings)
        assert predictor.predict_batch([]) == []
        with pytest.raises(InputError, match="item 2"):
            predictor.predict_batch([*items[:2], {"image": b""}])
        with pytest.raises(InputError, match="item 0"):
            predictor.predict_batch([{"sound": 1}])


def test_workers_give_the_same_from_many_threads(tower: Path) -> None:
    """Four interpreters, eight threads, 400 calls: 0 differences."""
    items = pictures(50)
    with load(tower) as one, load(tower, workers=4) as four:
        expected = [one.predict(**item).tensors["image_embeds"] for item in items]
        with ThreadPoolExecutor(8) as pool:
            got = list(pool.map(lambda i: four.predict(**items[i % 50]).tensors["image_embeds"], range(400)))
    assert sum(not np.array_equal(array, expected[i % 50]) for i, array in enumerate(got)) == 0
    with pytest.raises(InputError, match="workers: expected a whole number 1 to 64, got 0"):
        load(tower, workers=0)


def test_a_provider_that_would_not_run_is_an_error(tridigit: Path) -> None:
    """Asked for and not active: ProviderInactive (exit 5) that says which are there; never a silent CPU."""
    with pytest.raises(ProviderInactive) as refused:
        load(tridigit, providers=["CUDAExecutionProvider", "CPUExecutionProvider"])
    assert refused.value.exit_code == 5
    assert "CPUExecutionProvider" in str(refused.value)


def test_a_target_may_allow_fallback_and_says_so(tmp_path: Path) -> None:
    """A Jetson's bundle on a machine without its providers: loud warnings, then the CPU, the same answers."""
    from edgekit.targets import find_target

    target = find_target("jetson-orin-nano")
    draft = read_recipe(TRIDIGIT / "recipe.toml", "fp32", target, [], quiet)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        build(draft, target, tmp_path / "j.edgekit")
        with load(tmp_path / "j.edgekit") as predictor:
            assert predictor.predict(image=SEVEN_PNG, text=["seven", "two"]).label == "seven"
    said = {str(w.message).split(" ")[0] for w in caught if w.category is RuntimeWarning}
    assert said == {"TensorrtExecutionProvider", "CUDAExecutionProvider"}
