"""The reference work on disk, made once: tokens, labels, teacher logits and, for the contestants, models."""

import argparse
import copy
import json
import os
from pathlib import Path

import numpy as np
import torch

from kdnb import paths
from kdnb.catalog import model_of
from kdnb.data import splits as data
from kdnb.experiment import training
from kdnb.models import text


def main() -> None:
    """Write work.npz, work.json and, with --models, the folders student, teacher and tokenizer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--profile", default="cpu")
    parser.add_argument("--models", action="store_true")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    task = "mrpc" if options.profile == "toy" or (paths.GLUE / "MRPC").is_dir() else "headline"
    splits = data.load(task, options.profile)
    name = {size: model_of(options.profile, size) for size in ("large", "small")}
    limit = min(128, data.PROFILES[options.profile].max_length)
    tokens = training.encode(name["small"], splits, limit)
    logits = np.random.default_rng(0).normal(size=(len(splits.splits["train"]), splits.task.num_classes))
    if options.models:
        tokenizer = text.load_tokenizer(name["small"], splits)
        tokenizer.save_pretrained(options.folder / "tokenizer")
        teacher = classifier(name["large"], splits.task.num_classes)
        teacher.save_pretrained(options.folder / "teacher")
        classifier(name["small"], splits.task.num_classes).save_pretrained(options.folder / "student")
        logits = teacher_logits(teacher, tokens["train"])
    arrays = {part: getattr(tokens["train"], part) for part in ("ids", "starts", "second")}
    labels = splits.splits["train"].labels
    np.savez(options.folder / "work.npz", **arrays, labels=labels, teacher_logits=logits.astype(np.float32))
    shape = text._pretrained(name["small"])[0].config
    facts = {
        "task": task,
        "profile": options.profile,
        "data": splits.fingerprint,
        "pad_id": tokens["train"].pad_id,
        "num_classes": splits.task.num_classes,
        "rows": len(labels),
        "layers": shape.num_hidden_layers,
        "width": shape.hidden_size,
        "inner": shape.intermediate_size,
        "heads": shape.num_attention_heads,
    }
    (options.folder / "work.json").write_text(json.dumps(facts, indent=1))


def classifier(name: str, num_classes: int) -> torch.nn.Module:
    """transformers' classifier from kdnb's pretrained weights; the head is new, from seed 0."""
    from transformers import BertForSequenceClassification

    encoder, dense = text._pretrained(name)
    config = copy.deepcopy(encoder.config)
    config.num_labels = num_classes
    torch.manual_seed(0)
    model = BertForSequenceClassification(config)
    missing, unexpected = model.bert.load_state_dict(encoder.state_dict(), strict=False)
    if unexpected or any(not key.startswith("pooler") for key in missing):
        raise RuntimeError(f"weights do not fit: {missing} {unexpected}")
    model.bert.pooler.dense.load_state_dict(dense.state_dict())
    return model.eval()


def teacher_logits(teacher: torch.nn.Module, tokens) -> np.ndarray:
    """(N, K) logits of the teacher in float32."""
    from kdnb.core.device import device
    from kdnb.core.predict import predict

    teacher = teacher.to(device())

    class Logits(torch.nn.Module):
        def forward(self, **inputs):
            return teacher(**inputs).logits

    return predict(Logits(), tokens, "fp32").numpy()


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main()
