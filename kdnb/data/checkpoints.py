"""Models of the user's own: a folder that transformers wrote, or the hub at a commit; named by content, never trusted.

Torch-free. A folder's name in a config is its own and the fingerprint of what is in it, so that a run says what it was
made of wherever the folder lies; outputs/models/ remembers where that was.
"""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kdnb import files, paths
from kdnb.catalog import AS_IT_IS, SOURCES, Task, source_of
from kdnb.core import store
from kdnb.core.config import slug
from kdnb.errors import ModelUnavailable, nearest

WEIGHTS = "*.safetensors"
READ = ("config.json", "tokenizer*", "vocab*", "merges.txt", "*.model", "special_tokens_map.json", "added_tokens.json")
_READ_TYPES = {"model_type": str, "architectures": list, "max_position_embeddings": int, "pad_token_id": int}
_CLASSIFIER = "ForSequenceClassification"
_OFFSET = (
    "roberta",
    "xlm-roberta",
    "camembert",
    "mpnet",
    "xlm-roberta-xl",
    "longformer",
)  # positions behind the padding's
_UNBOUNDED = ("modernbert", "deberta", "deberta-v2")  # positions are relative
TEXT_PAIRS = "text_pairs"  # in the config.json of an exported model: whether an example is two texts
_AT_THE_END = ("xlnet",)  # classify at the last place of a batch and pad in front; three types of tokens


def is_spec(spec: str) -> bool:
    """Whether a word is meant for a model of the user's own: a folder, or something with a slash or a commit in it."""
    return spec not in SOURCES and ("/" in spec or "@" in spec or Path(spec).is_dir())


def name_of(spec: str, *, teacher: bool = False) -> str:
    """The name under which configs have a model: as `kdnb.catalog.source_of` reads it.

    Args:
        spec: a key of SOURCES, a folder, or id@commit of the hub.
        teacher: whether a finished classifier is to be used as it is.
    Raises:
        ValueError: it is none of these, or a folder lacks what a model needs.
    """
    if spec in SOURCES:
        return spec
    folder = Path(spec)
    if folder.is_dir():
        name = _remember(folder)
    elif "@" in spec and "/" in spec.partition("@")[0] and not spec.startswith((".", "/", "~")):
        name = spec
        if not re.fullmatch(r"[0-9a-f]{40}", spec.partition("@")[2]):
            raise ValueError(f"{spec}: a model of the hub is named with its commit, as in {_pinned(spec)}")
        source_of(spec)
    elif re.fullmatch(r"[\w.-]+/[\w.-]+", spec) and not spec.startswith("."):
        raise ValueError(f"{spec}: no such folder; a model of the hub is named with its commit, as in {_pinned(spec)}")
    else:
        where = f"{spec}: no such folder, " if "/" in spec else f"unknown model {spec!r}, "
        raise ValueError(f"{where}expected a folder, id@commit of the hub, or a model by name{nearest(spec, SOURCES)}")
    return AS_IT_IS + name if teacher and is_classifier(name) else name


def _pinned(spec: str) -> str:
    return f"{spec.partition('@')[0]}@<40 digits>"


def _remember(folder: Path) -> str:
    """A folder's name and fingerprint, and where it lies."""
    folder = folder.resolve()
    check_folder(folder)
    store.check_writable()
    name = f"{slug(folder.name)[:40] or 'model'}@{fingerprint(folder)}"
    files.write_json(paths.inside(paths.MODELS, f"{name}.json"), {"folder": str(folder)})
    return name


def check_folder(folder: Path) -> None:
    """Raise ValueError for a folder that lacks what a model is read from."""
    values = read_config(folder)
    if not values.get("model_type"):
        raise ValueError(f"{folder}: expected a model as transformers saves it; no config.json with a model_type in it")
    if not sorted(folder.glob(WEIGHTS)):
        raise ValueError(
            f"{folder}: no .safetensors file, which save_pretrained writes; weights in other formats can run code "
            "and are not read"
        )
    if not [path for path in _content(folder) if path.name.startswith(("tokenizer", "vocab"))]:
        raise ValueError(f"{folder}: no tokenizer; save it beside the model with tokenizer.save_pretrained")


def folder_of(name: str) -> Path:
    """Where the folder of a name lies.

    Raises:
        ModelUnavailable: it is unknown on this machine, gone, or holds another model now.
    """
    where = files.read_json(paths.inside(paths.MODELS, f"{name}.json")).get("folder")
    again = "name its folder once more with --student or --teacher"
    if not isinstance(where, str) or not where:
        raise ModelUnavailable(f"model {name}: it is not known here where its folder is; {again}")
    folder = Path(where)
    if not (folder / "config.json").exists():
        raise ModelUnavailable(f"model {name}: it was in {folder}, which is not there any more; {again}")
    if (found := fingerprint(folder)) != name.partition("@")[2]:
        raise ModelUnavailable(f"model {name}: {folder} holds another one now (fingerprint {found})")
    return folder


def fingerprint(folder: Path) -> str:
    """16 hex digits of everything a model is read from: config, weights, tokenizer."""
    digest = hashlib.sha256()
    for path in _content(folder):
        digest.update(f"{path.name}\0{files.sha256_once(path)}\0".encode())
    return digest.hexdigest()[:16]


def _content(folder: Path) -> list[Path]:
    return sorted({path for pattern in (*READ, WEIGHTS, f"{WEIGHTS}.index.json") for path in folder.glob(pattern)})


def values_of(name: str) -> dict:
    """What config.json of a model of the user's own says; {} where it is not here and the hub does not answer."""
    from kdnb.data import download, hub

    source = source_of(name)
    if source.kind == "folder":
        return read_config(folder_of(name.removeprefix(AS_IT_IS)))
    if source.kind != "hub":
        return {}
    folder = download.obtain(hub.Part(source.where, "model", source.revision, hub.MODEL_FILES))
    return read_config(folder) if folder else {}


def is_classifier(name: str) -> bool:
    """Whether a model was saved as a finished sequence classifier, and not as an encoder or a language model."""
    return _finished(values_of(name))


def read_config(folder: Path) -> dict[str, Any]:
    """What config.json in a folder says; of what is read here, {} for a value of another type than it has."""
    values = files.read_json(folder / "config.json")
    for name, kind in _READ_TYPES.items():
        if not isinstance(values.get(name), kind | None):
            return {}
    return values


def names_a_classifier(folder: Path) -> bool:
    """Whether a folder holds a finished sequence classifier."""
    return _finished(read_config(folder))


def _finished(values: dict) -> bool:
    return any(str(kind).endswith(_CLASSIFIER) for kind in values.get("architectures") or ())


def check(name: str, max_length: int) -> None:
    """Raise ValueError, before any training, if a model of the user's own cannot be read or has too few positions.

    Args:
        name: of any model.
        max_length: that its texts may have [tokens].
    """
    if name in SOURCES or not (values := values_of(name)):
        return
    check_kind(name, values)
    check_positions(f"model {name}", values, max_length)


def check_kind(name: str, values: Mapping[str, Any]) -> None:
    """Raise ModelUnavailable for a model that transformers itself has no code for: no other code is run.

    The same for one that reads other batches than kdnb makes.
    """
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    if values.get("model_type") in _AT_THE_END:
        raise ModelUnavailable(
            f"{name.removeprefix(AS_IT_IS)}: {values['model_type']} pads in front of a text and classifies at its end, "
            "kdnb pads behind it; take a model that classifies at its first token, such as a BERT"
        )
    if values.get("model_type") not in CONFIG_MAPPING_NAMES:
        raise ModelUnavailable(
            f"{name.removeprefix(AS_IT_IS)}: model_type {values.get('model_type')!r} is none that transformers has; "
            "code that comes with a model is not run"
        )


def check_positions(name: str, values: Mapping[str, Any], max_length: int) -> None:
    """Raise ValueError if a model, by its config.json, has fewer positions than the texts may have tokens."""
    kind, positions = values.get("model_type"), values.get("max_position_embeddings")
    if not isinstance(positions, int) or kind in _UNBOUNDED:
        return
    pad = values.get("pad_token_id")
    pad = 1 if pad is None or kind == "mpnet" else pad  # whose positions begin at 2 whatever it pads with
    limit = positions - pad - 1 if kind in _OFFSET else positions
    if max_length > limit:
        raise ValueError(f"{name} reads at most {limit} tokens, texts are cut to {max_length}: --max-length")


def check_pairs(name: str, trained_on: object, asked: bool, way_out: str = "") -> None:
    """Raise ValueError for a finished classifier that is asked of pairs of texts and was trained on single ones.

    And the other way round. One whose config.json does not say what it was trained on is asked.

    Args:
        name: of the model, for the message.
        trained_on: what its config.json has under TEXT_PAIRS, None for nothing.
        asked: whether it is asked of pairs.
        way_out: what to do instead.
    """
    words = {True: "pairs of texts", False: "single texts"}
    if isinstance(trained_on, bool) and trained_on is not asked:
        raise ValueError(f"{name} was trained on {words[trained_on]}, not on {words[asked]}{way_out}")


def class_order(name: str, id2label: Mapping[int, str], task: Task) -> list[int] | None:
    """Which of a finished classifier's classes each of a task's is, matched by name; None if they are in one order.

    Args:
        name: of the model, for the message.
        id2label: its classes.
        task: whose labels are ours.
    Raises:
        ValueError: the names are not the same ones; case, blanks and dashes are looked past where that is unambiguous.
    """
    theirs = [str(id2label[i]) for i in sorted(id2label)]
    for form in (str, _plain):
        places = {form(label): i for i, label in enumerate(theirs)}
        wanted = [form(label) for label in task.labels]
        if len(places) == len(theirs) and len(set(wanted)) == len(wanted) and set(wanted) == set(places):
            order = [places[label] for label in wanted]
            return None if order == list(range(len(order))) else order
    raise ValueError(
        f"teacher {name} has the classes {', '.join(theirs[:20])}, the data {', '.join(task.labels[:20])}: they must "
        "be the same names (id2label in its config.json), since an order cannot be guessed"
    )


def _plain(label: str) -> str:
    return re.sub(r"[\s_-]+", " ", label.strip()).casefold()
