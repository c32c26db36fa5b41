"""Frozen records and the strict passage between them and JSON.

A record is a class with annotations and nothing else:

    class Crop(Record):
        step: Literal["crop"]
        height: int
        width: int

`parse(Crop, document)` accepts exactly these keys with exactly these types; `dump(record)` gives the
document back. There are no default values: a fact that is missing is an error that names its key.

Why not `dataclasses`: defining one frozen dataclass takes about 1 ms (it compiles source text), and a
manifest has some forty records; these take a few microseconds each, which start-up on a board feels.
"""

from __future__ import annotations

import math
import re
import sys
import types
import typing
from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar, Union

from edgekit.errors import ManifestError

if TYPE_CHECKING:
    from typing_extensions import dataclass_transform
else:

    def dataclass_transform(**_: Any) -> Callable[[type], type]:
        return lambda cls: cls


R = TypeVar("R", bound="Record")
Json = Any
"""A value of a JSON document: None, bool, int, float, str, list or dict of these."""

NESTING_LIMIT = 64
CONTAINER_LIMIT = 1 << 15
WHOLE_NUMBER_LIMIT = 1 << 63

_SURROGATE = r"\\u[dD][89a-fA-F]"


@dataclass_transform(frozen_default=True, kw_only_default=True, eq_default=True)
class Record:
    """An immutable value with named fields, compared by value and written as keywords."""

    fields_: ClassVar[tuple[str, ...]] = ()
    _names: ClassVar[frozenset[str]] = frozenset()

    def __init_subclass__(cls) -> None:
        own = tuple(n for n, a in cls.__annotations__.items() if "ClassVar" not in str(a))
        cls.fields_ = tuple(n for n in cls.fields_ if n not in own) + own
        cls._names = frozenset(cls.fields_)

    def __init__(self, **fields: Any) -> None:
        if len(fields) != len(self._names) or not self._names.issuperset(fields):
            missing = [n for n in self.fields_ if n not in fields]
            unknown = sorted(fields.keys() - self._names)
            raise TypeError(f"{type(self).__name__}: missing {missing}, unknown {unknown}")
        self.__dict__.update(fields)
        self.check()

    def check(self) -> None:
        """Refuse values that the types allow and the meaning does not (override; raise ManifestError)."""

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable")

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        return hash((type(self), tuple(_hashable(self.__dict__[n]) for n in self.fields_)))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{n}={self.__dict__[n]!r}' for n in self.fields_)})"

    def replace(self: R, **changes: Any) -> R:
        """A copy with some fields changed, checked again."""
        return type(self)(**{**self.__dict__, **changes})


def _hashable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return tuple((k, _hashable(v)) for k, v in sorted(value.items()))
    return tuple(map(_hashable, value)) if isinstance(value, (tuple, list)) else value


def dump(value: Any) -> Json:
    """The JSON document of a record: dictionaries, lists and scalars only."""
    if isinstance(value, Record):
        return {name: dump(value.__dict__[name]) for name in value.fields_}
    if isinstance(value, Mapping):
        return {key: dump(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [dump(item) for item in value]
    return value


def dump_canonical(value: Any) -> bytes:
    """The one byte string that stands for this record: sorted keys, no spaces, ASCII."""
    import json  # 2 ms that importing the names of edgekit need not pay

    try:
        return json.dumps(dump(value), sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ManifestError("", f"cannot be written as JSON ({error})") from None


def load_json(data: bytes) -> Json:
    """JSON that means one thing only: no key twice, no NaN or Infinity, whole characters, bounded in size.

    At most NESTING_LIMIT levels and CONTAINER_LIMIT lists and tables, whose memory is many times their text.
    """
    import json

    if data.count(b"[") + data.count(b"{") > CONTAINER_LIMIT:
        raise ManifestError("", f"more than {CONTAINER_LIMIT} lists and tables")
    try:
        text = data.decode("utf-8")
        document = json.loads(text, object_pairs_hook=_no_twins, parse_constant=_no_constant)
        if re.search(_SURROGATE, text):
            json.dumps(document, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ManifestError("", "half a character (a surrogate alone) in a string") from None
    except RecursionError:
        raise ManifestError("", f"nested deeper than {NESTING_LIMIT} levels") from None
    except ValueError as error:  # not UTF-8, not JSON, or an integer beyond the interpreter's digit limit
        raise ManifestError("", f"not JSON ({error})") from None
    _check_nesting(document)
    return document


def _check_nesting(document: Json) -> None:
    level = [document]
    for _ in range(NESTING_LIMIT + 1):
        level = [
            item
            for value in level
            if isinstance(value, (dict, list))
            for item in (value.values() if isinstance(value, dict) else value)
            if isinstance(item, (dict, list))
        ]
        if not level:
            return
    raise ManifestError("", f"nested deeper than {NESTING_LIMIT} levels")


def _no_twins(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    document = dict(pairs)
    if len(document) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise ManifestError(_shown_name(name), "stands twice")
            seen.add(name)
    return document


def _no_constant(text: str) -> Json:
    raise ManifestError("", f"{text} is not a number here")


Check = Callable[[Json, str], Any]


def parse(cls: type[R], document: Json, *, key: str = "", by_hand: bool = False) -> R:
    """The record that a document stands for.

    `key` prefixes the dotted key of errors. A float must be written as one (`1.0`) and a null as null, so
    that `dump(parse(x)) == x`; `by_hand` is for TOML that people write: whole numbers pass for floats, and a
    field that may be null may be left out, since TOML has no null. Raises ManifestError.
    """
    result: R = _checker(cls, not by_hand)(document, key)
    return result


def _checker(kind: Any, exact: bool) -> Check:
    """The function that checks one type; built once per type."""
    return _build_checker(kind, exact)


@cache
def _build_checker(kind: Any, exact: bool) -> Check:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return _check_json
    if isinstance(kind, type) and issubclass(kind, Record):
        return _record_checker(kind, exact)
    if origin is Literal:
        return _literal_checker(arguments)
    if origin is tuple:
        return _tuple_checker(arguments, exact)
    if origin in (dict, Mapping) or (isinstance(origin, type) and issubclass(origin, Mapping)):
        return _mapping_checker(arguments[1], exact)
    if origin is Union or origin is types.UnionType:
        return _union_checker(arguments, exact)
    if kind is float:
        return _check_float if exact else _check_number
    if kind in (bool, int, str, type(None)):
        return _scalar_checker(kind)
    raise TypeError(f"a record cannot have a field of type {kind}")


def _name(kind: type) -> str:
    names = {bool: "true or false", int: "a whole number", str: "a string", type(None): "null", float: "a number"}
    return names[kind]


def _shown(value: Json) -> str:
    import json

    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _shown_name(name: str) -> str:
    """A name from outside, fit for a message: printable and not long."""
    return name if name.isprintable() and len(name) <= 80 else _shown(name[:80])


def _scalar_checker(kind: type) -> Check:
    def check(value: Json, key: str) -> Any:
        if type(value) is not kind:
            raise ManifestError(key, f"expected {_name(kind)}, got {_shown(value)}")
        return value

    return _check_int if kind is int else check


def _check_int(value: Json, key: str) -> Any:
    if type(value) is not int:
        raise ManifestError(key, f"expected {_name(int)}, got {_shown(value)}")
    if not -WHOLE_NUMBER_LIMIT <= value < WHOLE_NUMBER_LIMIT:
        raise ManifestError(key, "a whole number beyond 64 bits")
    return value


def _check_float(value: Json, key: str) -> Any:
    if type(value) is not float or not math.isfinite(value):
        raise ManifestError(key, f"expected a number with a decimal point, got {_shown(value)}")
    return value


def _check_number(value: Json, key: str) -> Any:
    if type(value) is int:
        return float(_check_int(value, key))
    if type(value) is not float or not math.isfinite(value):
        raise ManifestError(key, f"expected a number, got {_shown(value)}")
    return value


def _check_json(value: Json, key: str) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        raise ManifestError(key, "not a finite number")
    if type(value) is int:
        _check_int(value, key)
    if isinstance(value, dict):
        for name, item in value.items():
            _check_json(item, _join(key, _shown_name(name)))
    elif isinstance(value, list):
        for item in value:
            _check_json(item, key)
    elif value is not None and not isinstance(value, (bool, int, float, str)):
        raise ManifestError(key, f"{type(value).__name__} is not JSON")
    return value


def _literal_checker(choices: tuple[Any, ...]) -> Check:
    def check(value: Json, key: str) -> Any:
        if not any(type(value) is type(c) and value == c for c in choices):
            listed = ", ".join(_shown(c) for c in choices)
            raise ManifestError(key, f"expected one of {listed}, got {_shown(value)}")
        return value

    return check


def _tuple_checker(arguments: tuple[Any, ...], exact: bool) -> Check:
    endless = len(arguments) == 2 and arguments[1] is Ellipsis
    checks = [_checker(a, exact) for a in arguments if a is not Ellipsis]

    def check(value: Json, key: str) -> Any:
        if not isinstance(value, list):
            raise ManifestError(key, f"expected a list, got {_shown(value)}")
        if not endless and len(value) != len(checks):
            raise ManifestError(key, f"expected {len(checks)} entries, got {len(value)}")
        each = checks * len(value) if endless else checks
        return tuple(c(item, f"{key}[{i}]") for i, (c, item) in enumerate(zip(each, value)))

    return check


def _mapping_checker(item_kind: Any, exact: bool) -> Check:
    check_item = _checker(item_kind, exact)

    def check(value: Json, key: str) -> Any:
        if not isinstance(value, dict):
            raise ManifestError(key, f"expected a table, got {_shown(value)}")
        return {name: check_item(item, _join(key, _shown_name(name))) for name, item in value.items()}

    return check


def _union_checker(arguments: tuple[Any, ...], exact: bool) -> Check:
    """null, or records told apart by their first field, a Literal; or one plain type beside null."""
    nullable = type(None) in arguments
    kinds = [a for a in arguments if a is not type(None)]
    if len(kinds) == 1:
        only = _checker(kinds[0], exact)
        return lambda value, key: None if value is None and nullable else only(value, key)
    tag = kinds[0].fields_[0]
    by_tag = {choice: kind for kind in kinds for choice in typing.get_args(_hints(kind)[tag])}

    def check(value: Json, key: str) -> Any:
        if value is None and nullable:
            return None
        if not isinstance(value, dict):
            raise ManifestError(key, f"expected a table, got {_shown(value)}")
        if tag not in value:
            raise ManifestError(_join(key, tag), "missing")
        chosen = by_tag.get(value[tag]) if isinstance(value[tag], str) else None
        if chosen is None:
            listed = ", ".join(sorted(by_tag))
            raise ManifestError(_join(key, tag), f"expected one of {listed}, got {_shown(value[tag])}")
        return _checker(chosen, exact)(value, key)

    return check


def _hints(cls: type[Record]) -> dict[str, Any]:
    namespace: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        namespace.update(vars(sys.modules[base.__module__]))
    hints = typing.get_type_hints(cls, namespace)
    return {name: hints[name] for name in cls.fields_}


def _record_checker(cls: type[Record], exact: bool) -> Check:
    hints = _hints(cls)
    checks = {name: _checker(kind, exact) for name, kind in hints.items()}
    absent = {} if exact else {n: None for n, kind in hints.items() if type(None) in typing.get_args(kind)}

    def check(value: Json, key: str) -> Any:
        if not isinstance(value, dict):
            raise ManifestError(key, f"expected a table, got {_shown(value)}")
        for name in value:
            if name not in checks:
                raise ManifestError(_join(key, _shown_name(name)), "unknown")
        value = {**absent, **value}
        for name in checks:
            if name not in value:
                raise ManifestError(_join(key, name), "missing")
        fields = {name: c(value[name], _join(key, name)) for name, c in checks.items()}
        try:
            return cls(**fields)
        except ManifestError as error:
            raise ManifestError(_join(key, error.key), error.problem, hint=error.hint) from None

    return check


def _join(key: str, name: str) -> str:
    return f"{key}.{name}" if key and name else key or name
