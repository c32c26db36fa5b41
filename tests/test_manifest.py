"""P4, R3, R5: nothing in a manifest has a default, nothing in it may be unknown, and no input breaks its reader."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
from build_manifest import build_manifest

from edgekit.errors import BundleError, ManifestError
from edgekit.manifest import MANIFEST_LIMIT_BYTES, Manifest, check_file_name, dump_manifest, parse_manifest
from edgekit.records import Record, dump

SEED = 20240607
ABSENT = object()

# Keys whose value may be null, as the records' docstrings say; no other key may.
NULLABLE = {
    "generation",
    "mask",
    "windows",
    "type_ids",
    "quantization",
    "length",
    "features",
    "data",
    "indices_seed",
    "pooling",
    "result",
}

Path = tuple[Any, ...]


def dotted(path: Path) -> str:
    text = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in path)
    return text.removeprefix(".")


def records_of(value: Any, path: Path = ()) -> Iterator[tuple[Path, Record]]:
    """Every record inside a record, with where it stands."""
    if isinstance(value, Record):
        yield path, value
        for name in value.fields_:
            yield from records_of(getattr(value, name), (*path, name))
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from records_of(item, (*path, name))
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from records_of(item, (*path, index))


def leaves_of(document: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    items = document.items() if isinstance(document, dict) else enumerate(document)
    for name, item in items:
        if isinstance(item, (dict, list)):
            yield from leaves_of(item, (*path, name))
        else:
            yield (*path, name), item


def changed(document: Any, path: Path, value: Any) -> Any:
    """A copy with one place set, or with the key removed when value is ABSENT."""
    result = copy.deepcopy(document)
    at = result
    for step in path[:-1]:
        at = at[step]
    if value is ABSENT:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    return result


def to_bytes(document: Any) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def refused(document: Any) -> ManifestError:
    with pytest.raises(ManifestError) as caught:
        parse_manifest(to_bytes(document))
    return caught.value


MANIFEST = build_manifest()
DOCUMENT: dict[str, Any] = dump(MANIFEST)
RECORDS = list(records_of(MANIFEST))
KEYS = [(*path, name) for path, record in RECORDS for name in record.fields_]


def test_the_full_manifest_comes_back_and_uses_every_kind_of_input() -> None:
    data = dump_manifest(MANIFEST)
    assert parse_manifest(data) == MANIFEST
    assert dump_manifest(parse_manifest(data)) == data
    assert {spec.kind for spec in MANIFEST.inputs.values()} == {"image", "audio", "text", "tensor"}
    assert len(KEYS) > 200


def test_p4_no_key_has_a_default() -> None:
    """Each key of each nested record is removed in turn: each time refused, by its name."""
    for key in KEYS:
        error = refused(changed(DOCUMENT, key, ABSENT))
        assert error.key == dotted(key)
        assert dotted(key) in str(error)


def test_an_unknown_key_is_refused_at_every_level() -> None:
    for path, _ in RECORDS:
        key = (*path, "surprise")
        error = refused(changed(DOCUMENT, key, 1))
        assert (error.key, error.problem) == (dotted(key), "unknown")


def test_a_doubled_key_is_refused_at_every_level() -> None:
    text = to_bytes(DOCUMENT).decode()
    names = {key[-1] for key in KEYS} | {"image", "labels.txt", "onnxruntime", "scores", "cat"}
    for name in sorted(names):
        start = text.index(f'"{name}":')
        doubled = text[:start] + f'"{name}":0,' + text[start:]
        with pytest.raises(ManifestError, match="stands twice") as caught:
            parse_manifest(doubled.encode())
        assert caught.value.key == name


def test_a_value_of_another_type_is_refused_by_its_key() -> None:
    values = [None, True, 7, 7.5, "seven", ["x"], {"x": 1}]
    tried = 0
    for path, old in leaves_of(DOCUMENT):
        if path[0] == "golden" and path[2] in ("inputs", "result"):
            continue  # any JSON
        for value in values:
            if type(value) is type(old) or (value is None and path[-1] in NULLABLE):
                continue
            if old is None and path[-1] == "data" and isinstance(value, str):
                continue
            if old is None:
                expected = dotted(path)
                assert refused(changed(DOCUMENT, path, value)).key.startswith(expected)
            else:
                assert refused(changed(DOCUMENT, path, value)).key == dotted(path)
            tried += 1
    assert tried > 1300


def test_only_the_nullable_keys_take_null() -> None:
    for key in KEYS:
        if key[-1] not in NULLABLE:
            assert refused(changed(DOCUMENT, key, None)).key == dotted(key)


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
def test_a_number_that_is_none_is_refused_everywhere(constant: str) -> None:
    for path, old in leaves_of(DOCUMENT):
        if isinstance(old, (float, int)):
            text = to_bytes(changed(DOCUMENT, path, "@here@")).decode().replace('"@here@"', constant)
            with pytest.raises(ManifestError):
                parse_manifest(text.encode())


@pytest.mark.parametrize("found", [0, 2, 99, -1, 1.0, True, "1", None, [1], {}])
def test_another_format_is_refused_with_the_way_out(found: Any) -> None:
    error = refused(changed(DOCUMENT, ("format",), found))
    assert error.key == "format"
    assert error.hint is not None
    assert "edgekit" in error.hint


def test_only_the_canonical_bytes_are_read() -> None:
    data = dump_manifest(MANIFEST)
    others = [
        data + b"\n",
        b" " + data,
        json.dumps(DOCUMENT, sort_keys=True).encode(),
        json.dumps(DOCUMENT, separators=(",", ":")).encode(),
        data.replace(b"0.5", b"0.50"),
        data.replace(b"0.5", b"5e-1"),
        data.replace(b'"everything"', b'"\\u0065verything"'),
        b"\xef\xbb\xbf" + data,
        data.decode().encode("utf-16"),
    ]
    for other in others:
        assert other != data
        with pytest.raises(ManifestError):
            parse_manifest(other)


def test_sizes_are_bounded() -> None:
    with pytest.raises(ManifestError, match="larger than"):
        parse_manifest(b" " * (MANIFEST_LIMIT_BYTES + 1))
    fact = {"size": 0, "sha256": "0" * 64}
    error = refused({**DOCUMENT, "files": {f"f{i}": fact for i in range(65)}})
    assert (error.key, "at most 64" in error.problem) == ("files", True)
    assert refused(changed(DOCUMENT, ("files", "labels.txt", "size"), -1)).key == "files.labels.txt.size"
    assert refused(changed(DOCUMENT, ("files", "labels.txt", "size"), 1 << 63)).key == "files.labels.txt.size"


def hostile_names() -> list[str]:
    """300 names that mean something else somewhere, or nothing anywhere."""
    names = ["", ".", "..", "/", "//", "\\", "~", "~root", "-", "--rf", "-x", " ", "a ", " a", "a.", "a..", "...", "_a"]
    names += [f"{'../' * n}etc/passwd" for n in range(1, 20)] + [f"{'..' + chr(92)}" * n + "evil" for n in range(1, 10)]
    names += ["/etc/passwd", "//server/share", "\\\\server\\share", "C:/x", "c:x", "C:\\x", "file:///etc/passwd"]
    names += [
        "a/../b",
        "a/./b",
        "a//b",
        "a/",
        "/a",
        "a/..",
        "./a",
        "a/b/c/d",
        "a/b/../../../c",
        "..a",
        "a/.b",
        ".git/x",
    ]
    names += [f"a{chr(c)}b" for c in range(0x20)] + ["a\x7fb", "a\x85b", "\x00", "a\x00.onnx"]
    names += [f"a{c}b" for c in " !\"#$%&'()*+,:;<=>?@[]^`{|}~\\"]
    names += [f"a{c}b" for c in "‮‭‎‏⁦⁩​﻿ ／＼․∕"]
    names += ["A.onnx", "Model.onnx", "model.ONNX", "MANIFEST.JSON", "Manifest.json", "É", "é", "é", "ß", "ﬁle", "ı"]
    devices = ["con", "prn", "aux", "nul", *(f"com{i}" for i in range(10)), *(f"lpt{i}" for i in range(10))]
    names += devices + [f"{d}.txt" for d in devices] + [f"x/{d}" for d in devices] + ["nul.tar.gz", "con.", "aux/x"]
    names += ["x" * 65, "x" * 255, "x" * 5000, "x/" * 2500, "a/" + "y" * 65, "\U0001f600", "名前", "ⓐ", "²", "١"]
    names += ["`id`", "$(id)", "$HOME", "a;rm -rf b", "a|b", "a&b", "a\tb", "a\r\nb", "%2e%2e/x", "..%2fx", "a%00b"]
    names += [".ssh", ".bashrc", "-rf", "*", "?", "[a]", "{a,b}", "..;/x", "....//x", "a/ /b", "a/.../b", "x/-y", "_/x"]
    names += [f"{chr(c)}model.onnx" for c in range(0x20)] + [f"model.onnx{chr(c)}" for c in range(0x20)]
    return sorted(set(names))


def test_r3_hostile_file_names_are_refused() -> None:
    names = hostile_names()
    assert len(names) >= 300
    fact = {"size": 0, "sha256": "0" * 64}
    for name in names:
        error = refused({**DOCUMENT, "files": {name: fact}})
        assert error.key == "files", name
        assert len(str(error)) < 600
        assert str(error).isprintable(), name
        with pytest.raises(ManifestError):
            check_file_name(name, "files")


def test_good_file_names_are_taken() -> None:
    for name in ("a", "model.onnx", "tok/vocab.json", "a/b/c", "x" * 64, "0", "model.onnx.data", "a--b__c", "console"):
        check_file_name(name, "files")


def test_the_manifest_cannot_list_itself() -> None:
    fact = {"size": 0, "sha256": "0" * 64}
    assert refused({**DOCUMENT, "files": {"manifest.json": fact}}).key == "files"


@pytest.mark.parametrize("digest", ["", "0" * 63, "0" * 65, "0" * 63 + "G", "A" * 64, "0" * 63 + "\n", "٠" * 64])
def test_a_hash_is_64_hexadecimal_digits(digest: str) -> None:
    assert refused(changed(DOCUMENT, ("files", "labels.txt", "sha256"), digest)).key == "files.labels.txt.sha256"


@pytest.mark.parametrize("version", ["", "v1", "1.", "1..2", "1.2.3.4.5", "1.0-rc1", "1\n", "1" * 7, "١.٢"])
def test_a_version_is_numbers_with_dots(version: str) -> None:
    assert refused(changed(DOCUMENT, ("version",), version)).key == "version"


def test_law_parse_of_dump_is_the_manifest_10000() -> None:
    """10,000 generated manifests: whatever the records accept comes back equal, with the same bytes."""
    random, accepted, tried = Random(SEED), 0, 0
    values = list(leaves_of(DOCUMENT))
    while accepted < 10_000:
        document = copy.copy(DOCUMENT)
        for path, old in random.sample(values, 3):
            document = another(document, path, vary(random, old))
        tried += 1
        data = to_bytes(document)
        try:
            manifest = parse_manifest(data)
        except ManifestError:
            continue  # a value that the meaning forbids
        accepted += 1
        assert dump_manifest(manifest) == data
    assert tried < 40_000


def another(document: Any, path: Path, value: Any) -> Any:
    """Like `changed`, copying only what is on the way."""
    result = copy.copy(document)
    result[path[0]] = value if len(path) == 1 else another(document[path[0]], path[1:], value)
    return result


def vary(random: Random, old: Any) -> Any:
    if isinstance(old, bool):
        return random.random() < 0.5
    if isinstance(old, int):
        return random.choice([old, old + random.randrange(8), random.randrange(1, 1 << random.randrange(1, 40))])
    if isinstance(old, float):
        return random.choice([old, random.random(), random.uniform(-1e3, 1e3), math.ldexp(random.random(), -60), -0.0])
    if isinstance(old, str):
        if old.replace("_", "").isalnum() and random.random() < 0.9:
            return old  # most are one of a few words
        return random.choice([old, "".join(chr(random.randrange(97, 123)) for _ in range(6)), "größe \U0001f600\n\x00"])
    return old


def test_r5_mutated_manifests_are_refused_2000() -> None:
    """2,000 mutated documents and 2,000 mutated byte strings give a manifest or a BundleError, nothing else."""
    random, data = Random(SEED), dump_manifest(MANIFEST)
    leaves = [path for path, _ in leaves_of(DOCUMENT)]
    nodes = sorted({path[:n] for path in leaves for n in range(1, len(path) + 1)}, key=str)
    foreign = [None, True, -1, 0, 1 << 62, 1e308, -0.0, "", "x" * 1000, "\x00", "../x", [], {}, [[]], {"": {}}, [None]]
    outcomes = {"taken": 0, "refused": 0}
    for turn in range(4000):
        if turn % 2:
            document = copy.deepcopy(DOCUMENT)
            for _ in range(random.randrange(1, 4)):
                path = random.choice(nodes)
                try:
                    document = changed(document, path, random.choice([ABSENT, *foreign]))
                except (KeyError, IndexError, TypeError):
                    continue  # the place went away with an earlier change
            mutated = to_bytes(document)
        else:
            mutated = mutate(random, data)
        try:
            manifest = parse_manifest(mutated)
        except BundleError:
            outcomes["refused"] += 1
            continue
        assert dump_manifest(manifest) == mutated
        outcomes["taken"] += 1
    assert outcomes["refused"] > 3000


def mutate(random: Random, data: bytes) -> bytes:
    result, i, j = bytearray(data), random.randrange(len(data)), random.randrange(len(data))
    low, high = min(i, j), max(i, j)
    kind = random.randrange(5)
    if kind == 0:
        for _ in range(random.randrange(1, 9)):
            result[random.randrange(len(result))] = random.randrange(256)
    elif kind == 1:
        del result[i:]
    elif kind == 2:
        result[i:i] = random.randbytes(random.randrange(1, 40))
    elif kind == 3:
        del result[low:high]
    else:
        result[i:i] = result[low:high]
    return bytes(result)


def test_a_manifest_made_in_code_is_checked_like_one_that_is_read() -> None:
    with pytest.raises(TypeError):
        Manifest(format=1)  # type: ignore[call-arg]
    with pytest.raises(ManifestError):
        build_manifest(name="../x")
