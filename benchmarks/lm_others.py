"""Training loops for distilling a language model as others write them, for `lm.py`. Imports nothing of kdnb."""

import contextlib

import hf
import lm_work
import torch
import torch.nn.functional as F

BF16 = "bf16"


def autocast(on: bool) -> contextlib.AbstractContextManager:
    """bf16 matrix products, where they are wanted."""
    return torch.autocast(hf.DEVICE, dtype=torch.bfloat16, enabled=on)


def native() -> bool:
    """Whether bf16 is worth it here: on a CPU that emulates it, it is not."""
    if hf.DEVICE == "cuda":
        return True
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def tutorial_loss(student, teacher, ids: torch.Tensor) -> torch.Tensor:
    """Cross-entropy and KL, one half each, from dense logits, as tutorials write it."""
    logits, labels = student(input_ids=ids).logits[:, :-1], ids[:, 1:]
    with torch.no_grad():
        taught = teacher(input_ids=ids).logits[:, :-1]
    soft = F.kl_div(F.log_softmax(logits, -1).flatten(0, 1), F.softmax(taught, -1).flatten(0, 1), reduction="batchmean")
    hard = F.cross_entropy(logits.flatten(0, 1), labels.flatten())
    return (1 - lm_work.ALPHA) * hard + lm_work.ALPHA * soft


def loop(options, tuned: bool):
    """A tutorial's loop; tuned: bf16 autocast for both models, TF32 beside it, fused AdamW."""
    work = lm_work.size(options.tiny)
    teacher, student = lm_work.pair(work)
    ids = torch.from_numpy(lm_work.sequences(work)).to(hf.DEVICE)
    half = tuned and native()
    torch.set_float32_matmul_precision("high" if half else "highest")
    optimizer = torch.optim.AdamW(student.parameters(), lr=lm_work.LR, fused=True if tuned else None)

    def measured() -> dict:
        clock, student_ = lm_work.Clock(work), student.train()
        for step in range(work.warm + work.steps):
            rows = torch.arange(step * work.batch, (step + 1) * work.batch) % work.rows
            with autocast(half):
                loss = tutorial_loss(student_, teacher, ids[rows.to(ids.device)])
            loss.backward()
            torch.nn.utils.clip_grad_norm_(student.parameters(), lm_work.CLIP)
            optimizer.step()
            optimizer.zero_grad()
            clock(step + 1)
        return {**clock.result(), "precision": BF16 if half else "fp32"}

    return measured


def gkd(options):
    """TRL's GKDTrainer on given sequences (lmbda 0; beta 0: forward KL), tuned as the loop is."""
    from datasets import Dataset
    from transformers import PreTrainedTokenizerFast, TrainerCallback
    from trl.experimental.gkd import GKDConfig, GKDTrainer

    work = lm_work.size(options.tiny)
    teacher, student = lm_work.pair(work)
    half = native()

    def collated(rows: list[dict]) -> dict[str, torch.Tensor]:
        ids = torch.tensor([row["input_ids"] for row in rows])
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids, "prompts": ids[:, :1]}

    class Steps(TrainerCallback):
        def on_step_end(self, _, state, *__, **___):
            self.clock(state.global_step)

    def measured() -> dict:
        watch = Steps()
        watch.clock = lm_work.Clock(work)
        settings = GKDConfig(
            output_dir="unused",
            per_device_train_batch_size=work.batch,
            max_steps=work.warm + work.steps,
            lmbda=0.0,
            beta=0.0,
            bf16=half,
            optim="adamw_torch_fused",
            learning_rate=lm_work.LR,
            max_grad_norm=lm_work.CLIP,
            report_to=[],
            save_strategy="no",
            disable_tqdm=True,
            logging_strategy="no",
            gradient_checkpointing=False,
            use_cpu=hf.DEVICE == "cpu",
            dataset_kwargs={"skip_prepare_dataset": True},
            remove_unused_columns=False,
        )
        rows = Dataset.from_dict({"input_ids": lm_work.sequences(work).tolist()})
        GKDTrainer(
            model=student,
            teacher_model=teacher,
            args=settings,
            data_collator=collated,
            train_dataset=rows,
            processing_class=PreTrainedTokenizerFast(tokenizer_object=_tokenizer(), pad_token="0", eos_token="1"),
            callbacks=[watch],
        ).train()
        return {**watch.clock.result(), "precision": BF16 if half else "fp32"}

    return measured


def _tokenizer():
    """One that is never asked for anything: the sequences are ids already."""
    from tokenizers import Tokenizer, models

    return Tokenizer(models.WordLevel({"0": 0, "1": 1}, unk_token="0"))


def memory(options):
    """A step of loss and gradient from dense logits of student and teacher."""
    work = lm_work.size(options.tiny)
    student = lm_work.llama(work.shape, work.layers[1], options.vocabulary)
    states = torch.randn(work.batch, work.length, student.config.hidden_size, device=hf.DEVICE)
    head = torch.randn(options.vocabulary, student.config.hidden_size, device=hf.DEVICE) / 24
    ids = torch.arange(work.batch * work.length, device=hf.DEVICE).view(work.batch, -1) % options.vocabulary

    def step(tokens: int) -> None:
        length = max(2, tokens // work.batch)
        with autocast(hf.DEVICE == "cuda"):
            logits = student(input_ids=ids[:, :length]).logits[:, :-1].flatten(0, 1)
            with torch.no_grad():
                taught = (states[:, : length - 1] @ head.T).flatten(0, 1)
            hard = F.cross_entropy(logits, ids[:, 1:length].flatten())
            soft = F.kl_div(
                F.log_softmax(logits, -1), F.log_softmax(taught, -1), log_target=True, reduction="batchmean"
            )
        ((1 - lm_work.ALPHA) * hard + lm_work.ALPHA * soft).backward()
        student.zero_grad()

    return lambda: lm_work.risen(step, work.batch * work.length)


if __name__ == "__main__":
    lm_work.serve(
        {"tutorial": lambda o: loop(o, False), "tuned": lambda o: loop(o, True), "trl-gkd": gkd, "memory": memory}
    )
