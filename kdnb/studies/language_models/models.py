"""Language models: a teacher or student from a folder, the hub, a package, a cut of another, or a configuration."""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from torch import Tensor, nn

from kdnb import files, paths
from kdnb.catalog import HUB_REPO
from kdnb.core.device import device
from kdnb.data import download, hub
from kdnb.errors import ModelUnavailable, first_line, nearest, one_line, printable

SMOLLM2 = "smollm2"
_BUILD = 3  # of its folder: another number where another conversion gives other files
_EXACT = 1e-3  # how far, relative to the largest logit, head(hidden states) may be from a model's own logits
CONFIGS: dict[str, dict[str, Any]] = {  # small ones of the generated language; the vocabulary is the tokenizer's
    "llama-4x128": {"model_type": "llama", "num_hidden_layers": 4, "hidden_size": 128, "num_attention_heads": 4},
    "llama-2x64": {"model_type": "llama", "num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 2},
    "llama-1x64": {"model_type": "llama", "num_hidden_layers": 1, "hidden_size": 64, "num_attention_heads": 2},
    "llama-1x32": {"model_type": "llama", "num_hidden_layers": 1, "hidden_size": 32, "num_attention_heads": 2},
    "mamba2-2x64": {"model_type": "mamba2", "num_hidden_layers": 2, "hidden_size": 64, "head_dim": 32, "num_heads": 4},
}


@dataclass(frozen=True)
class Language:
    """A causal language model with what has to be known of it.

    model: of transformers, in eval mode.
    tokenizer: of transformers; None where the text is given as ids.
    name: id@revision, a folder's name, or what it was made of.
    licence: as whoever gave its weights tells it; "" where nothing does.
    """

    model: nn.Module
    tokenizer: Any = None
    name: str = ""
    licence: str = ""

    @property
    def vocabulary(self) -> int:
        """Rows of the head."""
        return self.head.weight.shape[0]

    @property
    def head(self) -> nn.Linear:
        """Hidden states (.., d) to logits (.., V)."""
        return self.model.get_output_embeddings()  # type: ignore[operator, no-any-return]

    def hidden(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        """Last hidden states (B, T, d) of ids (B, T); mask (B, T) tells padding, which must stand on the right."""
        base = self.model.base_model
        return base(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state  # type: ignore[operator]

    def logits(self, ids: Tensor) -> Tensor:
        """The model's own logits (B, T, V)."""
        return self.model(input_ids=ids, use_cache=False).logits


def check_head(language: Language) -> None:
    """Raise ValueError unless a model's logits are its head applied to its hidden states, which training builds on."""
    ids = torch.arange(8, device=language.head.weight.device)[None] % language.vocabulary
    with torch.no_grad():
        own, ours = language.logits(ids), language.head(language.hidden(ids))
    off = float((own - ours).abs().max() / own.abs().max().clamp(min=1e-6))
    if not off < _EXACT:
        raise ValueError(
            f"{language.name}: its logits are not its head applied to its hidden states (off by {off:.2g} of the "
            "largest; a cap or a scale on the logits?), which kdnb's loss needs; such models are left out"
        )


def weights_hash(model: nn.Module) -> str:
    """sha256 of all parameters and buffers, names included: of equal models equal, whatever file they came from."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def tokenizer_hash(tokenizer: Any) -> str:
    """sha256 of a tokenizer's vocabulary and rules: two of one hash give every text the same ids.

    What a library adds around a text, and how it turns ids back into one, is left out: neither is asked for here, and
    versions of transformers write them differently.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        content: Any = sorted(tokenizer.get_vocab().items())
    else:
        content = json.loads(backend.to_str())
        for name in ("truncation", "padding", "post_processor", "decoder"):
            content.pop(name, None)
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def template_hash(tokenizer: Any) -> str:
    """sha256 of a tokenizer's chat template; "" where it has none."""
    template = getattr(tokenizer, "chat_template", None)
    return hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest() if template else ""


def load(spec: str, *, attention: str = "sdpa") -> Language:
    """A language model with its tokenizer, on the training device.

    Args:
        spec: "smollm2", a folder that transformers wrote, or id@revision of the hub.
        attention: implementation; "eager" where FLOPs are counted on a CPU.
    Raises:
        ValueError: the name makes no sense.
        ModelUnavailable: it is not on this machine and the hub cannot be reached.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    folder = _folder(spec)
    logging.disable_progress_bar()  # of weights that are there in a second
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception:  # whatever transformers raises on reading somebody's files; a student of generated ids has none
        tokenizer = None
    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=torch.float32,
            use_safetensors=True,
            attn_implementation=attention,
            trust_remote_code=False,
        )
    except Exception as error:
        raise ModelUnavailable(f"{spec}: no causal language model can be loaded from it: {first_line(error)}") from None
    return Language(model.eval().to(device()), tokenizer, spec if "@" in spec else Path(spec).name, licence(folder))


def licence(folder: Path) -> str:
    """What a model's card (README.md, its front matter) says of its licence, else its config; "" where neither does."""
    from huggingface_hub.repocard import metadata_load

    try:
        card = metadata_load(folder / "README.md") or {}
    except Exception:  # no card, or one that is not UTF-8, no YAML, no mapping
        card = {}
    told = card.get("license_name") or card.get("license") or files.read_json(folder / "config.json").get("license")
    return printable(", ".join(map(str, told if isinstance(told, list) else [told or ""])))


def _folder(spec: str) -> Path:
    """Where a model's files lie, fetched or converted first."""
    if spec == SMOLLM2:
        return smollm2()
    if Path(spec).is_dir():
        return Path(spec)
    if "@" in spec and "/" in spec.split("@")[0]:
        return _from_hub(*spec.split("@", 1))
    if "/" in spec and not spec.startswith((".", "/", "~")):
        raise ValueError(f"{spec}: a model of the hub is named with its commit, as in {spec}@<40 digits>")
    raise ValueError(f"{spec}: expected {SMOLLM2}, a folder with a model, or id@commit of the hub; no such folder")


def _from_hub(repo: str, revision: str) -> Path:
    """The files of a model of the hub at a commit: fetched before, or fetched now."""
    if not re.fullmatch(HUB_REPO, repo) or not re.fullmatch(r"[0-9a-f]{40}", revision):
        raise ValueError(f"{repo}@{revision}: a model of the hub is named with its commit, as in {repo}@<40 digits>")
    if folder := download.obtain(hub.Part(repo, "model", revision, hub.LANGUAGE_MODEL_FILES)):
        return folder
    raise ModelUnavailable(f"{repo}@{revision}: not on this machine, and {hub.host()} does not answer")


def smollm2() -> Path:
    """Folder of SmolLM2-135M-Instruct as transformers lays one out, made once from the packaged GGUF (4 bit).

    Raises:
        MissingAsset: the package is not there and cannot be fetched.
    """
    folder = paths.DATA_CACHE / "built" / f"{SMOLLM2}-{_BUILD}"
    if (folder / "whole").exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not (folder / "whole").exists():
            _convert(folder)
    return folder


def _convert(folder: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM
    from transformers.utils import logging

    from kdnb.data.assets import asset
    from kdnb.studies.language_models import gguf_tokenizer, gguf_weights

    (path,) = asset(SMOLLM2).glob("*.gguf")
    settings, state = gguf_weights.read(path)  # a config keeps settings it does not know: a licence
    model = LlamaForCausalLM(LlamaConfig(**settings))
    model.load_state_dict(state)
    model.generation_config.pad_token_id = settings["eos_token_id"]
    logging.disable_progress_bar()
    model.save_pretrained(folder)
    gguf_tokenizer.read(path).save_pretrained(folder)
    files.write_atomically(folder / "whole", b"")


def evenly(layers: int, kept: int) -> list[int]:
    """Which layers a cut keeps: the first, the last, and the rest at equal distances, as DistilBERT is cut.

    Raises:
        ValueError: kept is not in 1..layers.
    """
    if not 1 <= kept <= layers:
        raise ValueError(f"a cut keeps 1 to {layers} layers, got {kept}")
    return [0] if kept == 1 else [round(i * (layers - 1) / (kept - 1)) for i in range(kept)]


def cut(teacher: Language, layers: int) -> Language:
    """A student of a teacher's own layers, embeddings and head; the teacher is left as it is.

    Args:
        teacher: a model whose layers are `base_model.layers`, as Llama's, Qwen's and Mistral's are.
        layers: how many are kept, see `evenly`.
    Raises:
        ValueError: its layers are elsewhere, or not so many.
    """
    base = teacher.model.base_model
    if not isinstance(getattr(base, "layers", None), nn.ModuleList):
        raise ValueError(f"{teacher.name}: expected a model whose layers are base_model.layers; give the student's own")
    kept = evenly(len(base.layers), layers)  # type: ignore[arg-type]
    values = teacher.model.config.to_dict()  # type: ignore[union-attr, operator]
    values["num_hidden_layers"] = layers
    if values.get("layer_types"):
        values["layer_types"] = [values["layer_types"][i] for i in kept]
    student = _blank(values)
    state = {name: value for name, value in teacher.model.state_dict().items() if ".layers." not in name}
    for new, old in enumerate(kept):
        mark = f".layers.{old}."
        own = {n.replace(mark, f".layers.{new}."): v for n, v in teacher.model.state_dict().items() if mark in n}
        state |= own
    student.load_state_dict(state)
    name = f"{teacher.name} cut to {layers} layers"
    return Language(student.eval().to(device()), teacher.tokenizer, name, teacher.licence)


def from_config(values: dict[str, Any], vocabulary: int, seed: int, tokenizer: Any = None) -> Language:
    """A student with fresh weights.

    Args:
        values: of a transformers config, `model_type` among them; what is left out is the type's default, but for
            the width of the feed-forward layers, 4 times the hidden size, and tied embeddings.
        vocabulary: rows of the head.
        seed: of the weights.
        tokenizer: it goes with.
    Raises:
        ValueError: transformers makes no model of it.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            model = _blank(_completed(values, vocabulary))
        except Exception as error:  # transformers and its packages raise many kinds on settings that make no sense
            raise ValueError(f"no configuration of a language model: {one_line(error)[:200]}") from None
    name = f"{values['model_type']} {values.get('num_hidden_layers')}x{values.get('hidden_size')}"
    return Language(model.eval().to(device()), tokenizer, name)


def _completed(values: dict[str, Any], vocabulary: int) -> dict[str, Any]:
    own: dict[str, Any] = {"vocab_size": vocabulary, "tie_word_embeddings": True}
    if values["model_type"] == "llama":
        own |= {"intermediate_size": 4 * values["hidden_size"], "max_position_embeddings": 2048}
    if values["model_type"] == "mamba2":
        own |= {"n_groups": 1, "state_size": 32, "chunk_size": 64, "expand": 2}
    special = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))
    return {**special, **own, **values}


def _blank(values: dict[str, Any]) -> nn.Module:
    from transformers import AutoConfig, AutoModelForCausalLM

    values = dict(values)
    config = AutoConfig.for_model(values.pop("model_type"), **values)
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32)


def student(spec: str, teacher: Language | None, vocabulary: int, seed: int) -> Language:
    """A student by name.

    Args:
        spec: "cut-6" (six of the teacher's layers), a key of CONFIGS, a .json file with a config, or as `load`.
        teacher: what is cut, and whose tokenizer a config's student has.
        vocabulary: rows of its head, where it comes from a config.
        seed: of weights that are new.
    Raises:
        ValueError: the name makes no sense; as `load`.
    """
    tokenizer = teacher.tokenizer if teacher else None
    if spec.startswith("cut-") and spec[4:].isdigit():
        if teacher is None:
            raise ValueError(f"{spec} is cut out of a teacher, and none is given")
        return cut(teacher, int(spec[4:]))
    if spec in CONFIGS:
        return from_config(CONFIGS[spec], vocabulary, seed, tokenizer)
    if spec.endswith(".json"):
        values = files.read_json(Path(spec))
        if "model_type" not in values:
            raise ValueError(f"{spec}: expected a JSON object with model_type and the settings of a config")
        return from_config(values, vocabulary, seed, tokenizer)
    try:
        return load(spec)
    except ValueError as error:
        raise ValueError(f"{error}{nearest(spec, ('cut-6', *CONFIGS))}") from None


def parameters(model: nn.Module) -> int:
    """Number of weights, tied ones once."""
    return sum(p.numel() for p in model.parameters())
