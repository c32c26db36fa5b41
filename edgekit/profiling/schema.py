"""The published schema of a report: JSON Schema 2020-12, derived from the records."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, Union

from edgekit.profiling.report import SCHEMA, Report
from edgekit.records import Json, Record

SCALARS: Mapping[Any, Json] = {
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    str: {"type": "string"},
    type(None): {"type": "null"},
}


def report_schema() -> dict[str, Json]:
    """The JSON Schema of a report; every key is required and none is added."""
    definitions: dict[str, Json] = {}
    root = _of(Report, definitions)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"edgekit profile, schema {SCHEMA}",
        **root,
        "$defs": dict(sorted(definitions.items())),
    }


def _of(kind: Any, definitions: dict[str, Json]) -> Json:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if isinstance(kind, type) and issubclass(kind, Record):
        if kind.__name__ not in definitions:
            definitions[kind.__name__] = {}
            definitions[kind.__name__] = _record(kind, definitions)
        return {"$ref": f"#/$defs/{kind.__name__}"}
    if kind in SCALARS:
        return SCALARS[kind]
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin is tuple:
        return {"type": "array", "items": _of(arguments[0], definitions)}
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": _of(arguments[1], definitions)}
    if origin in (Union, types.UnionType):
        return {"anyOf": [_of(argument, definitions) for argument in arguments]}
    return {}


def _record(kind: type[Record], definitions: dict[str, Json]) -> Json:
    hints = typing.get_type_hints(kind)
    return {
        "type": "object",
        "description": (kind.__doc__ or "").strip().split("\n")[0],
        "properties": {name: _of(hints[name], definitions) for name in kind.fields_},
        "required": list(kind.fields_),
        "additionalProperties": False,
    }
