"""Any kdnb config trained by tuned Trainer with cached logits: what a careful user would write instead."""

import copy
import functools

import numpy as np
import torch
import torch.nn.functional as F
from hf import DEVICE
from transformers import BertForSequenceClassification, DataCollatorWithPadding, logging

from kdnb.catalog import model_of
from kdnb.core.config import RunConfig
from kdnb.data.splits import TaskData
from kdnb.models import text

logging.set_verbosity_error()


def encoded(data: TaskData):
    """Examples of every split, the collator, and a function that gives a run its untrained model."""
    from prepare import classifier

    tokenizer = text.load_tokenizer(model_of("cpu", "small"), data)
    examples = {}
    for name, split in data.splits.items():
        found = tokenizer(split.text, split.text2, truncation=True, max_length=128)
        columns = dict(found)
        examples[name] = [
            {**{column: columns[column][i] for column in columns}, "labels": int(label)}
            for i, label in enumerate(split.labels)
        ]

    @functools.cache
    def loaded(size: str) -> BertForSequenceClassification:
        return classifier(model_of("cpu", size), data.task.num_classes)

    def fresh(config: RunConfig) -> BertForSequenceClassification:
        model = copy.deepcopy(loaded(config.student))
        torch.manual_seed(config.seed)
        torch.nn.init.normal_(model.classifier.weight, std=0.02)
        return model.to(DEVICE)

    return examples, DataCollatorWithPadding(tokenizer), fresh


def run(config: RunConfig, examples: dict, collator, model, teacher_logits: np.ndarray | None) -> dict:
    """Train one model as the config says; its logits on every split, in the split's order."""
    from with_trainer import make

    rows = examples["train"]
    if teacher_logits is not None:
        rows = [{**row, "teacher_logits": logits.tolist()} for row, logits in zip(rows, teacher_logits, strict=True)]
    options = {"lr": config.lr, "epochs": config.epochs, "seed": config.seed, "objective": objective(config)}
    trainer = make(model, rows, collator, tuned=True, **options)
    trainer.train()
    trainer.args.train_sampling_strategy = "random"  # else predict would shuffle the rows by length
    return {name: predict(trainer, part) for name, part in examples.items()}


def predict(trainer, examples: list[dict]) -> np.ndarray:
    """Logits in the examples' order, computed in the order of their lengths so that little is padded."""
    order = np.argsort([len(example["input_ids"]) for example in examples], kind="stable")
    bare = [{name: value for name, value in examples[i].items() if name != "labels"} for i in order]
    logits = trainer.predict(bare).predictions
    found = np.empty_like(logits, dtype=np.float32)
    found[order] = logits
    return found


def objective(config: RunConfig):
    """The config's loss in torch's own functions."""
    alpha, tau = config.alpha, config.tau

    def loss(logits, labels, teacher_logits):
        if config.method in ("erm", "ls"):
            return F.cross_entropy(logits, labels, label_smoothing=alpha)
        if config.method == "tfkd":
            rest = (1 - config.confidence) / (logits.shape[1] - 1)
            teacher_logits = (F.one_hot(labels, logits.shape[1]) * (config.confidence - rest) + rest).log()
        soft = F.kl_div(
            F.log_softmax(logits / tau, dim=-1), F.softmax(teacher_logits / tau, dim=-1), reduction="batchmean"
        )
        return (1 - alpha) * F.cross_entropy(logits, labels) + alpha * tau**2 * soft

    return loss
