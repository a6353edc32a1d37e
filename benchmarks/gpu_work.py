"""What `gpu.py` measures with, made once: the card's facts and peak, two pairs of models, their texts on disk."""

import argparse
import json
import re
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import hf
import machine
import numpy as np
import torch
from prepare import classifier

from kdnb import paths
from kdnb.core.device import device, precision
from kdnb.core.predict import predict
from kdnb.data import splits as data
from kdnb.data.tokens import Tokens, tokenize
from kdnb.models import text

BF16_PEAKS = {  # name as torch tells it, without "NVIDIA " -> dense TFLOP/s of NVIDIA's data sheet
    r"H200": 989.5, r"H100 80GB HBM3": 989.5, r"H100 PCIe": 756.5, r"A100[ -].*": 312.0, r"A40": 149.7,
    r"A10": 125.0, r"L40S": 362.0, r"L4": 121.0,
}  # fmt: skip
VOCABULARY, CLASSES, EXAMPLES, MAX_LENGTH = 30522, 2, 2000, 128
LENGTHS = (53.2, 13.2, 19, 103)  # tokens of an MRPC pair: mean, sd, least, most
FIRST_WORD, SLOPE = 1000, 1.26  # of a law of words that gives 2000 pairs MRPC's 9000 different ones


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Shapes of teacher and student. distil: whether the student is a DistilBERT."""

    layers: tuple[int, int]
    width: int
    heads: int
    inner: int
    distil: bool
    packaged: tuple[str, str] = ()  # keys of kdnb's SOURCES, where both come with a package


PAIRS = {
    "minilm": Pair(layers=(6, 3), width=384, heads=12, inner=1536, distil=False, packaged=("minilm-6", "minilm-3")),
    "bert": Pair(layers=(12, 6), width=768, heads=12, inner=3072, distil=True),
}
TINY = {
    "minilm": Pair(layers=(2, 1), width=32, heads=2, inner=64, distil=False),
    "bert": Pair(layers=(2, 1), width=32, heads=2, inner=64, distil=True),
}


def card(tiny: bool) -> dict:
    """The card, what its matrix products reach, and its bf16 peak [TFLOP/s]; of the CPU where that is measured."""
    cuda, kind = device().type == "cuda", precision()
    if not cuda:
        facts = {"name": "cpu"}
    else:
        about = torch.cuda.get_device_properties(0)
        facts = {
            "name": torch.cuda.get_device_name(),
            "capability": f"{about.major}.{about.minor}",
            "memory_gib": round(about.total_memory / 2**30, 1),
            "multiprocessors": about.multi_processor_count,
            "cuda": torch.version.cuda,
        }
    rates = machine.gemm_gflops(256 if tiny else 8192 if cuda else 2048, 0.1 if tiny else 1.5)
    measured = {name: rates[name] / 1000 for name in ("bf16", "fp32")}
    listed = listed_peak(facts["name"]) if kind == "bf16" else None
    peak, source = (listed, "data sheet, dense bf16") if listed else (measured[kind], f"measured {kind} product")
    return {**facts, "precision": kind, "gemm_tflops": measured, "peak_tflops": peak, "peak_source": source}


def listed_peak(card: str) -> float | None:
    """bf16 peak of a card by the name torch tells [TFLOP/s], None where it is not in the table."""
    short = card.removeprefix("NVIDIA ")
    return next((peak for name, peak in BF16_PEAKS.items() if re.fullmatch(name, short)), None)


def texts(tiny: bool) -> tuple[Tokens, np.ndarray, object, str]:
    """Token ids, labels (N,), tokenizer, and where they come from: MRPC, or drawn at its lengths."""
    try:
        if tiny:
            raise ValueError("toy size")
        if not (paths.GLUE / "MRPC").is_dir():
            raise ValueError("GLUE's MRPC is not here")
        splits = data.load("mrpc", "cpu")
        tokenizer = text.load_tokenizer("minilm-3", splits)
        train = splits.splits["train"]
        return tokenize(train, tokenizer, MAX_LENGTH), train.labels, tokenizer, "MRPC"
    except Exception as error:  # whatever is missing, drawn texts serve for timing
        return *drawn(tiny), f"drawn at MRPC's lengths ({_line(error)})"


def drawn(tiny: bool) -> tuple[Tokens, np.ndarray, object]:
    """Texts as long, and with about as many different words, as MRPC's."""
    from transformers import BertTokenizerFast

    rng, (mean, sd, low, high) = np.random.default_rng(0), (12, 4, 8, 24) if tiny else LENGTHS
    count, words, first = (64, 256, 5) if tiny else (EXAMPLES, VOCABULARY, FIRST_WORD)
    lengths = rng.normal(mean, sd, count).round().clip(low, high).astype(int)
    weights = (np.arange(words - first) + 2.7) ** -SLOPE
    ids = first + rng.choice(words - first, size=lengths.sum(), p=weights / weights.sum())
    starts = np.concatenate([[0], np.cumsum(lengths)])
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = BertTokenizerFast(vocab={word: i for i, word in enumerate(special)})
    return Tokens(ids.astype(np.int32), starts, lengths // 2), rng.integers(CLASSES, size=count), tokenizer


def pair_models(pair: Pair, tiny: bool) -> tuple[torch.nn.Module, torch.nn.Module, str]:
    """transformers' classifiers, teacher and student, and where their weights come from."""
    why = "their shapes alone count"
    if pair.packaged:
        try:
            return *(classifier(name, CLASSES) for name in pair.packaged), "packaged"
        except Exception as error:  # random weights of the same shapes serve for timing
            why = _line(error)
    return *(random_model(pair, which, tiny) for which in (0, 1)), f"random ({why})"


def random_model(pair: Pair, which: int, tiny: bool) -> torch.nn.Module:
    """The teacher (0) or the student (1) of a pair's shapes, with random weights."""
    import transformers

    torch.manual_seed(which)
    kind = "DistilBert" if which and pair.distil else "Bert"
    names = {  # of width, inner width, layers, heads
        "Bert": ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
        "DistilBert": ("dim", "hidden_dim", "n_layers", "n_heads"),
    }[kind]
    shape = dict(zip(names, (pair.width, pair.inner, pair.layers[which], pair.heads), strict=True))
    config = getattr(transformers, f"{kind}Config")(vocab_size=256 if tiny else VOCABULARY, num_labels=CLASSES, **shape)
    return getattr(transformers, f"{kind}ForSequenceClassification")(config)


def kdnb_model(folder: Path, dropout: float, seed: int) -> text.Classifier:
    """kdnb's classifier on the encoder that transformers saved in a folder; on the training device."""
    from transformers import AutoModel

    encoder = AutoModel.from_pretrained(folder)
    width = encoder.config.hidden_size
    if encoder.config.model_type == "bert":
        dense, encoder.pooler = encoder.pooler.dense, None
    else:
        dense = torch.nn.Linear(width, width)
    return text.Classifier(encoder, dense, CLASSES, dropout, seed).to(device())


def write(folder: Path, pair: Pair, found: tuple[Tokens, np.ndarray, object, str], tiny: bool) -> dict:
    """Models, tokenizer, ids and teacher logits of a pair, as `hf.load` reads them; returns the facts."""
    tokens, labels, tokenizer, source = found
    teacher, student, weights = pair_models(pair, tiny)
    tokenizer.save_pretrained(folder / "tokenizer")
    teacher.save_pretrained(folder / "teacher")
    student.save_pretrained(folder / "student")
    model, kind = kdnb_model(folder / "teacher", 0.0, 0), precision()
    predict(model, tokens, kind)  # the first pass also warms up
    started = hf.synced()
    logits = predict(model, tokens, kind).numpy()
    rate = len(labels) / (hf.synced() - started)
    arrays = {name: getattr(tokens, name) for name in ("ids", "starts", "second")}
    np.savez(folder / "work.npz", **arrays, labels=labels, teacher_logits=logits.astype(np.float32))
    shape = {"layers": pair.layers[1], "width": pair.width, "inner": pair.inner, "heads": pair.heads}
    facts = {
        "task": "mrpc",
        "profile": "toy" if tiny else "cpu",
        "data": "0" * 16,
        "pad_id": tokens.pad_id,
        "num_classes": CLASSES,
        "rows": len(labels),
        **shape,
        "pair": asdict(pair),
        "weights": weights,
        "texts": source,
        "mean_length": float(tokens.lengths.mean()),
        "different_words": len(np.unique(tokens.ids)),
        "precision": kind,
        "teacher_logits_per_second": rate,
        "gflop_per_example": machine.flops(tokens.lengths, shape) / 1e9,
    }
    (folder / "work.json").write_text(json.dumps(facts, indent=1))
    return facts


def _line(error: Exception) -> str:
    return " ".join((str(error).strip() or type(error).__name__).splitlines()[0].split())


def main() -> None:
    """Print the facts, or that there is no CUDA device where one is wanted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--device", choices=("cuda", "cpu"), required=True)
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    if options.device == "cuda" and device().type != "cuda":
        print(json.dumps({"absent": f"torch {torch.__version__} sees no CUDA device"}))
        return
    started, found = time.perf_counter(), texts(options.tiny)
    facts = {"card": card(options.tiny), "machine": machine.facts(), "pairs": {}}
    for name, pair in (TINY if options.tiny else PAIRS).items():
        (options.folder / name).mkdir(parents=True)
        try:
            facts["pairs"][name] = write(options.folder / name, pair, found, options.tiny)
        except Exception as error:
            facts["pairs"][name] = {"failed": _line(error)}
    print(json.dumps({**facts, "seconds": time.perf_counter() - started}))


if __name__ == "__main__":
    main()
