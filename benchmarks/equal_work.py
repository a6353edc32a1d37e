"""Does kdnb compute what Trainer computes? Weights after three steps; loss and accuracy over seeds."""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import hf
import numpy as np
import torch
import torch.nn.functional as F

STEPS = 3
LAYER = {  # kdnb's name -> transformers'
    "out": "attention.output.dense", "norm1": "attention.output.LayerNorm", "up": "intermediate.dense",
    "down": "output.dense", "norm2": "output.LayerNorm",
}  # fmt: skip


def main() -> None:
    """Print both comparisons."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=400)
    options = parser.parse_args()
    work = hf.load(options.folder)
    print(json.dumps({"weights": weights(work), "seeds": over_seeds(options.seeds, options.rows)}))


def weights(work: hf.Work) -> dict:
    """The largest difference after STEPS steps without dropout, in float32, batches in file order."""
    import with_kdnb
    import with_trainer

    from kdnb.core.device import device
    from kdnb.core.loop import fit
    from kdnb.models import text

    rows = np.arange(STEPS * hf.BATCH)
    config = with_kdnb.config_of(work, dropout=0.0, precision="fp32")
    data, tokens, teacher = with_kdnb.inputs(work, rows)
    ours = text.build(config, data).to(device())
    off = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "classifier_dropout": 0.0}
    theirs = hf.model(work, "student", **off)
    theirs.classifier.load_state_dict(ours.classifier.state_dict())
    start = {name: value.detach().clone() for name, value in theirs.named_parameters()}
    gaps = _gaps(ours, theirs)
    if max(gaps.values()) > 0:
        raise SystemExit(f"the models do not start alike: {max(gaps, key=gaps.get)}")
    epochs = [[rows[i : i + hf.BATCH] for i in range(0, len(rows), hf.BATCH)]]
    fit(config, ours, tokens, data.splits["train"].labels, teacher.logits["train"], plan=epochs)
    teacher = hf.model(work, "teacher").eval()
    trainer = with_trainer.make(
        theirs, work.examples(rows, padded=True), hf.Collator(work), tuned=False, sampling="sequential", teacher=teacher
    )
    trainer.train()
    moved = max(float((value.detach() - start[name]).abs().max()) for name, value in theirs.named_parameters())
    gaps = _gaps(ours, theirs)
    noise = max(gap for name, gap in gaps.items() if name.endswith("key.bias"))
    gaps = {name: gap for name, gap in gaps.items() if not name.endswith("key.bias")}
    where = max(gaps, key=gaps.get)
    return {"steps": STEPS, "largest": gaps[where], "where": where, "moved": moved, "key_bias": noise, "all": gaps}


def _gaps(ours, theirs) -> dict[str, float]:
    """Largest difference of each of transformers' parameters from kdnb's."""
    encoder, embeddings = ours.encoder, "bert.embeddings."
    words = encoder.words if encoder.row is None else encoder.table[encoder.row]  # in the order of the token ids
    mine = {
        f"{embeddings}word_embeddings.weight": words,
        f"{embeddings}position_embeddings.weight": encoder.positions,
        f"{embeddings}token_type_embeddings.weight": encoder.types,
    }
    modules = {f"{embeddings}LayerNorm": encoder.norm, "bert.pooler.dense": ours.dense, "classifier": ours.classifier}
    for i, layer in enumerate(encoder.layers):
        modules |= {f"bert.encoder.layer.{i}.{name}": getattr(layer, own) for own, name in LAYER.items()}
        for kind in ("weight", "bias"):
            for name, part in zip(("query", "key", "value"), getattr(layer.qkv, kind).chunk(3), strict=True):
                mine[f"bert.encoder.layer.{i}.attention.self.{name}.{kind}"] = part
    mine |= {f"{name}.{kind}": getattr(part, kind) for name, part in modules.items() for kind in ("weight", "bias")}
    other = dict(theirs.named_parameters())
    if set(mine) != set(other):
        raise SystemExit(f"parameters without a partner: {sorted(set(mine) ^ set(other))}")
    return {name: float((value - other[name]).detach().abs().max()) for name, value in mine.items()}


def over_seeds(count: int, rows: int) -> dict:
    """Final train loss (the whole train split, dropout off) and test accuracy of kdnb and of tuned Trainer."""
    import comparison
    import seeds as trained

    from kdnb.core import loop
    from kdnb.experiment.arms import arm_config

    data = comparison.task_data(rows)
    shared = {"task": data.task.name, "profile": "cpu", "data": data.fingerprint}
    teacher = loop.fit(arm_config("erm_large", **shared, seed=0, history_points=0), data)
    config = arm_config("kd_standard", **shared, seed=0, teacher_run=teacher.run_id, alpha=0.5, history_points=0)
    examples, collator, fresh = trained.encoded(data)
    found = {"kdnb": [], "Trainer": []}
    for seed in range(count):
        config = replace(config, seed=seed, order_seed=seed)
        theirs = trained.run(config, examples, collator, fresh(config), teacher.logits["train"])
        for name, logits in (("kdnb", loop.fit(config, data, teacher).logits), ("Trainer", theirs)):
            found[name].append(_outcome(logits, data, teacher.logits["train"]))
    return found


def _outcome(logits: dict, data, teacher_logits: np.ndarray) -> dict:
    labels = {name: torch.from_numpy(split.labels) for name, split in data.splits.items()}
    ours = torch.from_numpy(logits["train"])
    soft = F.kl_div(ours.log_softmax(-1), torch.from_numpy(teacher_logits).softmax(-1), reduction="batchmean")
    loss = 0.5 * F.cross_entropy(ours, labels["train"]) + 0.5 * soft
    accuracy = float((logits["test"].argmax(-1) == labels["test"].numpy()).mean())
    return {"train_loss": float(loss), "test_accuracy": accuracy}


if __name__ == "__main__":
    main()
