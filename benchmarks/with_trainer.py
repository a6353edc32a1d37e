"""transformers.Trainer with the loss in compute_loss: the tutorial's recipe, tuned, and tuned with cached logits."""

import tempfile

import torch
from hf import BATCH, DEVICE, LR, Collator, Work, kd_loss, model, synced
from transformers import Trainer, TrainerCallback, TrainingArguments


class KDTrainer(Trainer):
    """Trainer whose loss is `objective(logits, labels, teacher_logits)`; the teacher runs here, or is a column."""

    def __init__(self, *args, teacher=None, objective=kd_loss, **kwargs):
        super().__init__(*args, **kwargs)
        self.teacher, self.objective = teacher, objective

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """The loss of one batch."""
        labels, logits_of_teacher = inputs.pop("labels"), inputs.pop("teacher_logits", None)
        if self.teacher is not None:
            with torch.no_grad(), torch.autocast(DEVICE, torch.bfloat16, enabled=self.args.bf16):
                logits_of_teacher = self.teacher(**inputs).logits.float()
        outputs = model(**inputs)
        loss = self.objective(outputs.logits.float(), labels, logits_of_teacher)
        return (loss, outputs) if return_outputs else loss


class Clock(TrainerCallback):
    """Seconds between the begin and the end of training, model and data being ready."""

    def on_train_begin(self, *_, **__):
        self.started = synced()

    def on_train_end(self, *_, **__):
        self.seconds = synced() - self.started


def make(student, examples: list[dict], collator: Collator, *, tuned: bool, sampling: str = "", **options) -> KDTrainer:
    """A Trainer of the reference work. Options: teacher, objective; lr, epochs, seed; training, more arguments."""
    arguments = {
        "output_dir": tempfile.mkdtemp(prefix="kdnb-bench-"),
        "per_device_train_batch_size": BATCH,
        "per_device_eval_batch_size": 2 * BATCH,
        "learning_rate": options.pop("lr", LR),
        "num_train_epochs": options.pop("epochs", 1),
        "seed": options.pop("seed", 0),
        "lr_scheduler_type": "linear",
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "bf16": tuned,
        "train_sampling_strategy": sampling or ("group_by_length" if tuned else "random"),
        "use_cpu": DEVICE == "cpu",
        "remove_unused_columns": False,
        "report_to": "none",
        "save_strategy": "no",
        "logging_strategy": "no",
        "disable_tqdm": True,
    }
    arguments = TrainingArguments(**{**arguments, **options.pop("training", {})})
    return KDTrainer(student, arguments, data_collator=collator, train_dataset=examples, **options)


def train(work: Work, rows, *, tuned: bool = False, cached: bool = False) -> tuple[float, float]:
    """Train the student on some rows once; seconds and share of padding."""
    collator, clock = Collator(work), Clock()
    teacher = None if cached else model(work, "teacher").eval()
    examples = work.examples(rows, padded=not tuned, cached=cached)
    trainer = make(model(work, "student"), examples, collator, tuned=tuned, teacher=teacher, callbacks=[clock])
    trainer.train()
    return clock.seconds, collator.padding
