"""Write and read one checkpoint file: a tree of tensors and plain values as safetensors.

A file is written whole or not at all, and never pickled.

Any safetensors reader can look into the file. Tensors are named by their path in the tree joined by
"/"; the tree itself, with every value that is not a tensor, is JSON in the header's metadata::

    format          "pixel-hrl"
    format_version  "1"
    checksum        CRC-32 of content
    content         {"frames", "tree", "metadata", "versions", "checksums"}

The checksums are {name: CRC-32 of name, dtype, shape and bytes}.
"""

import json
import math
import re
import struct
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from hrl.run.atomic_files import atomic_file
from hrl.run.errors import CheckpointError
from hrl.run.provenance import package_versions

FORMAT = "pixel-hrl"
FORMAT_VERSION = 1
DTYPES = {
    "bool": "BOOL",
    "uint8": "U8",
    "int8": "I8",
    "uint16": "U16",
    "int16": "I16",
    "uint32": "U32",
    "int32": "I32",
    "uint64": "U64",
    "int64": "I64",
    "float16": "F16",
    "bfloat16": "BF16",
    "float32": "F32",
    "float64": "F64",
    "complex64": "C64",
}
LARGEST_HEADER = 100_000_000  # bytes; safetensors refuses to read a larger one

Value = TypeVar("Value")
JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"
CheckpointTree: TypeAlias = (
    "Tensor | np.ndarray | np.generic | bool | int | float | str | list[CheckpointTree]"
    " | tuple[CheckpointTree, ...] | Mapping[str, CheckpointTree] | Mapping[int, CheckpointTree]"
    " | None"
)


@dataclass(frozen=True)
class Checkpoint:
    """Hold a checkpoint file in memory.

    Every mapping is a dict; tensors are on the CPU without gradient; arrays are writable.

    Attributes:
        frames: control steps done so far.
        state: what was saved, or the parts of it that were read.
        metadata: JSON values about it.
        versions: of Python and of the packages that can change a result.
        path: of the file.
        checksum: of everything in the file.
    """

    frames: int
    state: dict[str, Any]
    metadata: dict[str, Any]
    versions: dict[str, str]
    path: Path
    checksum: str

    def value(self, key: str, kind: type[Value]) -> Value:
        """Return a value of the metadata.

        Raises:
            CheckpointError: there is none of this kind.
        """
        value = self.metadata.get(key)
        if not isinstance(value, kind):
            raise CheckpointError(self.path, f"its metadata have no {key!r}")
        return value


def write(
    path: Path, frames: int, state: Mapping[str, CheckpointTree], metadata: Mapping[str, JSON]
) -> str:
    """Write one checkpoint file atomically; `read` gives it back bit for bit.

    Args:
        path: the file; its folder must exist.
        frames: control steps done so far.
        state: a tree of mappings (keys str or int, without "/"), lists and tuples. Leaves: torch
            tensors of any layout and device, numpy arrays and scalars, None, bool, int, float (NaN
            and infinities too), str. Of a tensor the values, dtype and shape are kept, not its
            strides, its device, `requires_grad`, or that it shares memory with another. Of a numpy
            array, not its byte order.
        metadata: JSON values about it.

    Returns:
        The checksum of everything in it, which `read` returns too.

    Raises:
        ValueError: a key or a value that cannot be saved, named; nothing was written.
        OSError: the file system refused; no file is left behind.
    """
    if frames < 0 or not isinstance(state, Mapping):
        raise ValueError(
            "a checkpoint needs frames >= 0 and a mapping, "
            f"not {frames} and a {type(state).__name__}"
        )
    arrays: dict[str, _Array] = {}
    tree = _encode(state, (), arrays)
    # Large alignments first, as the safetensors library itself does, so that every tensor can be
    # mapped in place.
    arrays = dict(sorted(arrays.items(), key=lambda item: (-item[1].itemsize, item[0])))
    content = _content(frames, tree, metadata, arrays)
    header = _header(content, arrays)
    # The format is an 8-byte length, JSON and raw bytes. Writing them here rather than through the
    # library costs no copy of an array in any of its versions, and a full disk is an OSError with
    # its number.
    with atomic_file(path) as file:
        file.write(struct.pack("<Q", len(header)) + header)
        for array in arrays.values():
            file.write(array.data)
    return _checksum(content)


def read(path: Path, parts: Collection[str] | None = None) -> Checkpoint:
    """Read one checkpoint file and check every byte that is read.

    Nothing in it is ever executed.

    Args:
        path: the file.
        parts: paths in the state, their keys joined by "/"; memory is taken for these parts only,
            and the state returned has no others. All of it by default.

    Raises:
        CheckpointError: there is no such file, it is no safetensors file, is truncated or damaged,
            was not written by this package, has a format version that this package does not know,
            or lacks one of the parts.
    """
    path = Path(path)
    try:
        return _read(path, parts)
    except CheckpointError:
        raise
    except (SafetensorError, OSError) as error:
        raise CheckpointError(path, _why_unreadable(path, error)) from error
    except (
        TypeError,
        ValueError,
        LookupError,
        AttributeError,
        RecursionError,
        struct.error,
    ) as error:
        # Another program wrote it, with checksums that are right.
        raise CheckpointError(path, "damaged: its content is no tree of values") from error


def _read(path: Path, parts: Collection[str] | None) -> Checkpoint:
    with safe_open(path, framework="pt") as file:
        text = _read_content(path, file.metadata() or {})
        content = json.loads(text)
        names = set(file.keys())
        _verify_names(path, names, content["checksums"])
        tree = content["tree"] if parts is None else _prune(path, content["tree"], parts)
        # Cloned because the library maps the file: what was checked is what is used.
        tensors = {
            name: file.get_tensor(name).clone() for name in names.intersection(_tensor_names(tree))
        }
    _verify(path, tensors, content["checksums"])
    state = _decode(tree, tensors)
    kinds = {"frames": int, "metadata": dict, "versions": dict}
    odd = [name for name, kind in kinds.items() if not isinstance(content[name], kind)]
    if odd or not isinstance(state, dict):
        raise CheckpointError(path, f"damaged: its {', '.join(odd) or 'state'} is of another kind")
    return Checkpoint(
        frames=content["frames"],
        state=state,
        metadata=content["metadata"],
        versions=content["versions"],
        path=path,
        checksum=_checksum(text),
    )


@dataclass(frozen=True)
class _Array:
    """Hold a tensor or an array as bytes in C order.

    `data` is the caller's own memory wherever that is possible.
    """

    dtype: str
    shape: tuple[int, ...]
    data: memoryview = field(repr=False)

    @classmethod
    def of(cls, name: str, value: Tensor | np.ndarray) -> "_Array":
        dtype = _dtype_name(value)
        if dtype not in DTYPES:
            raise ValueError(f"{name!r} has dtype {dtype}; a checkpoint holds {', '.join(DTYPES)}")
        if isinstance(value, Tensor) and (value.is_meta or value.layout != torch.strided):
            raise ValueError(
                f"{name!r} is a {value.layout} tensor on {value.device}; "
                "a checkpoint holds dense values"
            )
        return cls(dtype, tuple(value.shape), _bytes_of(value))

    @property
    def itemsize(self) -> int:
        return self.data.nbytes // max(1, math.prod(self.shape))

    def checksum(self, name: str) -> int:
        """Return the CRC-32 of the name, the dtype, the shape and the bytes.

        A header that is damaged but still makes sense must not pass.
        """
        return zlib.crc32(self.data, zlib.crc32(f"{name} {self.dtype} {self.shape}".encode()))


def _dtype_name(value: Tensor | np.ndarray) -> str:
    return (
        str(value.dtype).removeprefix("torch.") if isinstance(value, Tensor) else value.dtype.name
    )


def _bytes_of(value: Tensor | np.ndarray) -> memoryview:
    if isinstance(value, Tensor):
        dense = value.detach().cpu().resolve_conj().resolve_neg().contiguous()
        return dense.reshape(-1).view(torch.uint8).numpy().data
    native = value.astype(value.dtype.newbyteorder("="), copy=False)
    return np.asarray(native, order="C").reshape(-1).view(np.uint8).data


def _encode(value: Any, path: tuple[str, ...], arrays: dict[str, _Array]) -> JSON:
    """Return a tree as JSON, and put its tensors into `arrays`.

    Plain values stand for themselves; all else is {kind: ...}.
    """
    if value is None or type(value) in (bool, int, str):
        return value  # type: ignore[no-any-return]
    if type(value) is float:
        return value if math.isfinite(value) else {"float": struct.pack(">d", value).hex()}
    if isinstance(value, Mapping):
        return {
            "map": [
                [key, _encode(value[key], (*path, name), arrays)]
                for key, name in _named_keys(value, path)
            ]
        }
    if type(value) in (list, tuple):
        items = [_encode(item, (*path, str(index)), arrays) for index, item in enumerate(value)]
        return {type(value).__name__: items}
    return _encode_array(value, "/".join(path), arrays)


def _encode_array(value: Any, name: str, arrays: dict[str, _Array]) -> JSON:
    if isinstance(value, Tensor):
        kind, array = "torch", _Array.of(name, value)
    elif isinstance(value, np.ndarray):
        kind, array = "numpy", _Array.of(name, value)
    elif isinstance(value, np.generic):
        kind, array = "scalar", _Array.of(name, np.asarray(value))
    else:
        raise ValueError(
            f"{name!r} is a {type(value).__name__}; a checkpoint holds tensors, numpy arrays and "
            "scalars, None, bool, int, float, str, and lists, tuples and mappings of them"
        )
    arrays[name] = array
    return {kind: name}


def _named_keys(mapping: Mapping[Any, Any], path: tuple[str, ...]) -> list[tuple[str | int, str]]:
    """Return each key with the name that it has in the file."""
    owner = repr("/".join(path)) if path else "the state"
    for key in mapping:
        if type(key) not in (str, int):
            raise ValueError(
                f"key {key!r} of {owner} is a {type(key).__name__}; "
                "a checkpoint's keys are str or int"
            )
        # A lone surrogate is no Unicode text, and no reader would take the header.
        if re.search(r"[/\ud800-\udfff]", str(key)) or (key == "__metadata__" and not path):
            raise ValueError(
                f'key {key!r} of {owner}: a key must be text without "/", and not "__metadata__"'
            )
    named = [(key, str(key)) for key in mapping]
    if len({name for _, name in named}) < len(named):
        raise ValueError(f"{owner} has the same key as a number and as text: {list(mapping)}")
    return named


_DECODERS: dict[str, Callable[[Any, Mapping[str, Tensor]], Any]] = {
    "float": lambda body, tensors: struct.unpack(">d", bytes.fromhex(body))[0],
    "map": lambda body, tensors: {key: _decode(item, tensors) for key, item in body},
    "list": lambda body, tensors: [_decode(item, tensors) for item in body],
    "tuple": lambda body, tensors: tuple(_decode(item, tensors) for item in body),
    "torch": lambda body, tensors: tensors[body],
    "numpy": lambda body, tensors: tensors[body].numpy(),
    "scalar": lambda body, tensors: tensors[body].numpy()[()],
}


def _decode(node: Any, tensors: Mapping[str, Tensor]) -> Any:
    if not isinstance(node, dict):
        return node
    ((kind, body),) = node.items()
    return _DECODERS[kind](body, tensors)


def _prune(path: Path, tree: Any, parts: Collection[str]) -> Any:
    """Return the tree with nothing but these parts."""
    pruned: dict[str, Any] = {"map": []}
    for part in parts:
        _graft(path, pruned, tree, part, part.split("/"))
    return pruned


def _graft(path: Path, target: dict[str, Any], source: Any, part: str, keys: list[str]) -> None:
    """Copy the entries of `source` under `keys` into the same place of `target`."""
    entries = source.get("map", []) if isinstance(source, dict) else []
    found = [entry for entry in entries if str(entry[0]) == keys[0]]
    if not found:
        raise CheckpointError(path, f"its state has no {part!r}")
    key, node = found[0]
    if len(keys) == 1:
        target["map"].append([key, node])
        return
    below = [entry[1] for entry in target["map"] if entry[0] == key]
    if not below:
        target["map"].append([key, {"map": []}])
        below = [target["map"][-1][1]]
    _graft(path, below[0], node, part, keys[1:])


def _tensor_names(node: Any) -> Iterator[str]:
    """Yield the names of the tensors that a tree refers to."""
    if not isinstance(node, dict):
        return
    ((kind, body),) = node.items()
    if kind in ("torch", "numpy", "scalar"):
        yield body
    elif kind != "float":
        for item in body:
            yield from _tensor_names(item[1] if kind == "map" else item)


def _content(
    frames: int, tree: JSON, metadata: Mapping[str, JSON], arrays: Mapping[str, _Array]
) -> str:
    checksums = {name: array.checksum(name) for name, array in arrays.items()}
    content = {
        "frames": frames,
        "tree": tree,
        "metadata": dict(metadata),
        "versions": package_versions(),
        "checksums": checksums,
    }
    try:
        return json.dumps(content)
    except (TypeError, ValueError) as error:
        raise ValueError(f"a checkpoint's metadata must be JSON values: {error}") from error


def _header(content: str, arrays: Mapping[str, _Array]) -> bytes:
    entries: dict[str, Any] = {
        "__metadata__": {
            "format": FORMAT,
            "format_version": str(FORMAT_VERSION),
            "checksum": _checksum(content),
            "content": content,
        }
    }
    end = 0
    for name, array in arrays.items():
        begin, end = end, end + array.data.nbytes
        entries[name] = {
            "dtype": DTYPES[array.dtype],
            "shape": array.shape,
            "data_offsets": [begin, end],
        }
    header = json.dumps(entries, separators=(",", ":")).encode()
    if len(header) > LARGEST_HEADER:
        raise ValueError(
            f"the values that are not tensors take {len(header)} bytes, more than {LARGEST_HEADER}"
        )
    return header + b" " * (-len(header) % 8)


def _checksum(content: str) -> str:
    return str(zlib.crc32(content.encode()))


def _read_content(path: Path, header: Mapping[str, str]) -> str:
    if header.get("format") != FORMAT:
        raise CheckpointError(path, f"not written by {FORMAT}")
    version = header.get("format_version")
    if version != str(FORMAT_VERSION):
        raise CheckpointError(path, f"format version {version}, this is version {FORMAT_VERSION}")
    text = header.get("content", "")
    if header.get("checksum") != _checksum(text):
        raise CheckpointError(path, "damaged: the checksum of its header does not match")
    return text


def _verify_names(path: Path, names: set[str], checksums: Mapping[str, int]) -> None:
    odd = sorted(names ^ checksums.keys())
    if odd:
        raise CheckpointError(
            path, f"damaged: tensors that are missing or not its own: {', '.join(odd)}"
        )


def _verify(path: Path, tensors: Mapping[str, Tensor], checksums: Mapping[str, int]) -> None:
    for name, tensor in tensors.items():
        array = _Array(_dtype_name(tensor), tuple(tensor.shape), _bytes_of(tensor))
        if array.checksum(name) != checksums[name]:
            raise CheckpointError(path, f"damaged: the checksum of {name!r} does not match")


def _why_unreadable(path: Path, error: Exception) -> str:
    if isinstance(error, OSError):
        return "no such file" if isinstance(error, FileNotFoundError) else str(error)
    with open(path, "rb") as file:
        start = file.read(9)
    if len(start) == 9 and start[8:] != b"{":
        return "not a safetensors file"
    return f"truncated or damaged: {path.stat().st_size} bytes, {error}"
