"""A BERT whose weights come as an ONNX graph, written out once as transformers reads it; no ONNX library is needed.

Of the graph only its initializers are read, and of its nodes which matrix each product multiplies by: an export names
biases and tables as the module does, and matrices by number.
"""

import json
import os
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from filelock import FileLock

from kdnb import paths

Message = dict[int, list]  # field number -> its values, of one protobuf message
GRAPH, NODE, INITIALIZER = 7, 1, 5  # of ModelProto; of GraphProto
NODE_INPUT, NODE_NAME, NODE_OP = 1, 3, 4
TENSOR_DIMS, TENSOR_TYPE, TENSOR_NAME, TENSOR_RAW = 1, 2, 8, 9
FLOAT = 1  # TensorProto.FLOAT


def bert_folder(name: str, onnx: Path, like: Path) -> Path:
    """A folder that `from_pretrained` reads, made once: the graph's weights, config and tokenizer of another model.

    Args:
        name: of the folder.
        onnx: the graph of a BertModel without its pooler.
        like: a folder with config and tokenizer of a BERT that differs in its number of layers alone.
    """
    folder = paths.inside(paths.DATA_CACHE / "built", name)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.parent / f"{name}.lock"):
        if not folder.is_dir():
            from safetensors.numpy import save_file

            weights = bert_weights(onnx.read_bytes())
            layers = 1 + max(int(key.split(".")[2]) for key in weights if key.startswith("encoder.layer."))
            config = {**json.loads((like / "config.json").read_text()), "num_hidden_layers": layers}
            with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
                made = Path(scratch, name)
                made.mkdir()
                for file in (*like.glob("tokenizer*"), *like.glob("special_tokens*"), like / "vocab.txt"):
                    shutil.copy(file, made)
                (made / "config.json").write_text(json.dumps(config, indent=1))
                save_file(weights, made / "model.safetensors", metadata={"format": "pt"})
                os.replace(made, folder)
    return folder


def bert_weights(model: bytes) -> dict[str, np.ndarray]:
    """The state dict of a BertModel without its pooler, from an ONNX file; ValueError if a matrix is not float32."""
    graph = _message(memoryview(_message(memoryview(model))[GRAPH][0]))
    tensors = {_text(tensor[TENSOR_NAME][0]): tensor for tensor in map(_message, graph[INITIALIZER])}
    weights = {}
    for name, tensor in tensors.items():
        if "auto_model." in name:
            weights[name.partition("auto_model.")[2]] = _array(tensor)
    for node in map(_message, graph[NODE]):
        matrix = tensors.get(_text(node[NODE_INPUT][1])) if _text(node[NODE_OP][0]) == "MatMul" else None
        if matrix is not None:  # ".../auto_model/encoder/layer.0/output/dense/MatMul": x W, where torch has x W^T
            path = _text(node[NODE_NAME][0]).partition("auto_model/")[2].removesuffix("/MatMul")
            weights[f"{path.replace('/', '.')}.weight"] = np.ascontiguousarray(_array(matrix).T)
    return weights


def _array(tensor: Message) -> np.ndarray:
    if tensor[TENSOR_TYPE][0] != FLOAT:
        raise ValueError(f"{_text(tensor[TENSOR_NAME][0])}: expected float32, got ONNX type {tensor[TENSOR_TYPE][0]}")
    return np.frombuffer(tensor[TENSOR_RAW][0], np.float32).reshape(tensor[TENSOR_DIMS])


def _message(data: memoryview) -> Message:
    found: Message = defaultdict(list)
    for number, value in _fields(data):
        found[number].append(value)
    return found


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """(number, value) of every field of a protobuf message: an integer, or bytes."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(data):
        number, wire = divmod(varint(), 8)
        if wire == 0:
            yield number, varint()
        else:
            size = {1: 8, 5: 4}.get(wire) or varint()
            yield number, data[at : at + size]
            at += size


def _text(value: memoryview) -> str:
    return bytes(value).decode()
