"""TextBrewer's GeneralDistiller in the recipe of its GLUE example, and the same tuned."""

import logging
import tempfile

import torch
from hf import ALPHA, DEVICE, LR, TAU, Collator, Work, loader, model, synced
from textbrewer import DistillationConfig, GeneralDistiller, TrainingConfig
from torch import nn
from transformers import get_linear_schedule_with_warmup


class Quiet(GeneralDistiller):
    """Without the checkpoint that GeneralDistiller saves each epoch: no other contestant saves one."""

    def save_and_callback(self, *_):
        """Nothing."""


class Autocast(nn.Module):
    """A model whose forward pass runs in bf16 autocast: its fp16 option needs apex."""

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner

    def forward(self, **inputs):
        """The model's outputs."""
        with torch.autocast(DEVICE, torch.bfloat16):
            outputs = self.inner(**inputs)
        outputs.logits = outputs.logits.float()
        return outputs


def train(work: Work, rows, *, tuned: bool = False) -> tuple[float, float]:
    """Train the student on some rows once; seconds and share of padding.

    Its example pads to the full length, in float32, with the teacher beside the student. Tuned: dynamic padding,
    texts of like length together, bf16 autocast in a wrapper, cached logits as `teacher_cache`, fused AdamW.
    """
    logging.getLogger("Distillation").setLevel(logging.ERROR)
    collator, student, teacher = Collator(work), model(work, "student"), model(work, "teacher") if not tuned else None
    student = Autocast(student).train() if tuned else student.train()
    examples = work.examples(rows, padded=not tuned, cached=tuned)
    collate = (lambda examples: _cached(collator(examples))) if tuned else collator
    batches = loader(examples, collate, grouped=tuned)
    config = TrainingConfig(device=DEVICE, output_dir=tempfile.mkdtemp(prefix="kdnb-bench-"))
    losses = DistillationConfig(temperature=TAU, kd_loss_weight=ALPHA, hard_label_weight=1 - ALPHA)
    distiller = Quiet(config, losses, teacher or nn.Identity(), student, _teacher, _student)
    started = synced()
    optimizer = torch.optim.AdamW(student.parameters(), lr=LR, weight_decay=0.0, fused=tuned)
    steps = {"num_warmup_steps": 0, "num_training_steps": len(batches)}
    with distiller:
        distiller.train(
            optimizer,
            batches,
            num_epochs=1,
            scheduler_class=get_linear_schedule_with_warmup,
            scheduler_args=steps,
            max_grad_norm=1.0,
        )
    return synced() - started, collator.padding


def _cached(batch: dict) -> dict:
    """A batch in the form that carries the teacher's outputs along."""
    logits = batch.pop("teacher_logits")
    return {"teacher": {}, "student": batch, "teacher_cache": {"logits": logits}}


def _teacher(_batch, outputs) -> dict:
    return {"logits": outputs["logits"]}


def _student(_batch, outputs) -> dict:
    return {"logits": outputs.logits, "losses": outputs.loss}
