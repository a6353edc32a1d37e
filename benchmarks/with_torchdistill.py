"""torchdistill's KDLoss in the loop of its text classification example, and the same tuned.

Its DistillationBox needs torchvision and collects the loss's inputs by forward hooks; the loss is given them
here directly, which costs less.
"""

import torch
from hf import ALPHA, DEVICE, LR, TAU, Collator, Work, loader, model, synced
from torch import nn
from torchdistill.losses.mid_level import KDLoss
from transformers import get_linear_schedule_with_warmup


def train(work: Work, rows, *, tuned: bool = False) -> tuple[float, float]:
    """Train the student on some rows once; seconds and share of padding.

    Its example pads to the longest of a batch, in float32, with the teacher beside the student. Tuned: bf16
    autocast, texts of like length together, cached logits, fused AdamW.
    """
    collator = Collator(work)
    student, teacher = model(work, "student").train(), None if tuned else model(work, "teacher").eval()
    batches = loader(work.examples(rows, cached=tuned), collator, grouped=tuned)
    criterion = KDLoss("classifier", "output", "classifier", "output", temperature=TAU, alpha=1 - ALPHA)
    started = synced()
    optimizer = torch.optim.AdamW(student.parameters(), lr=LR, weight_decay=0.0, fused=tuned)
    scheduler = get_linear_schedule_with_warmup(optimizer, 0, len(batches))
    for batch in batches:
        batch = {name: part.to(DEVICE) for name, part in batch.items()}
        targets, soft = batch.pop("labels"), batch.pop("teacher_logits", None)
        with torch.autocast(DEVICE, torch.bfloat16, enabled=tuned):
            if teacher is not None:
                with torch.no_grad():
                    soft = teacher(**batch).logits
            logits = student(**batch).logits
        loss = criterion(_io(logits.float()), _io(soft.float()), targets)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        loss.item()  # its metric logger reads the loss of every step
    return synced() - started, collator.padding


def _io(logits: torch.Tensor) -> dict:
    """What its forward hooks would have collected."""
    return {"classifier": {"output": logits}}
