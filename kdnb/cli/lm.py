"""`kdnb lm`: language models of your own; a thin mirror of `kdnb.studies.language_models`."""

import inspect
import math
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kdnb.cli.options import Json, add_options, finish, on_this_machine, only_given
from kdnb.core.methods import setting_of
from kdnb.errors import KdnbError
from kdnb.studies.language_models.config import LMConfig

if TYPE_CHECKING:
    from kdnb.studies.language_models.models import Language
    from kdnb.studies.language_models.text import Blocks

app = typer.Typer(
    help="Language models: fetch, check, cache, train, export.", no_args_is_help=True, rich_markup_mode=None
)
cache = typer.Typer(help="A teacher's targets on disk.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(cache, name="cache")

Teacher = Annotated[str, typer.Option(help="smollm2, a folder with a model, or id@commit of the hub.")]
Data = Annotated[
    str,
    typer.Option(
        help="bbc, sotu, a folder of .txt or .md, one such file with empty lines between its texts, a table (.jsonl, "
        ".csv, .tsv, .parquet), or what lm fetch brought."
    ),
]
Column = Annotated[str, typer.Option(help="Of a table: the column with the text.")]
Length = Annotated[int, typer.Option(help="Tokens of a sequence.", min=2)]
Rows = Annotated[int, typer.Option(help="Sequences at most, 0 for all.", min=0)]
Storage = Annotated[
    str, typer.Option(help="top_k, sampled, or hidden: the teacher's states, which give its whole law.")
]
Kept = Annotated[int, typer.Option(help="Entries of each token's law, or draws from it.", min=1)]
Threads = Annotated[
    int, typer.Option(help="CPU threads, 0 for torch's own; another number gives other last bits.", min=0)
]
Folder = Annotated[Path, typer.Argument(help="The cache.", show_default=False)]
_LEFT_OUT = ("length",)  # of the sequences, said beside the data
_SOFT = {one.name: one.default for one in fields(LMConfig) if one.name in ("divergence", "beta", "tau", "variant")}


class Refused(KdnbError, ValueError):
    """Teacher and student do not fit."""


def _options() -> list[inspect.Parameter]:
    """An option for each setting of LMConfig; None where it is not given."""
    options = []
    for field in fields(LMConfig):
        if "setting" in field.metadata and field.name not in _LEFT_OUT:
            one = setting_of(field)
            text = f"{one.help[0].upper()}{one.help[1:]}; {one.expected}. [default: {field.default}]"
            kind: Any = type(field.default)
            annotation = Annotated[kind | None, typer.Option(help=text)]
            options.append(
                inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
            )
    return options


def _material(tokenizer: Any, data: str, column: str, length: int, rows: int) -> "dict[str, Blocks]":
    """The sequences of each split."""
    from kdnb.studies.language_models import text

    if tokenizer is None:
        raise ValueError(
            "no tokenizer to read text with: expected tokenizer.json beside the weights of teacher or student"
        )
    parts = text.split(text.documents(data, column))
    return {name: text.blocks(part, tokenizer, length, rows) for name, part in parts.items()}


@app.command()
@add_options(_options(), only_given, first=False)
def train(
    changes: dict[str, Any],
    student: Annotated[
        str, typer.Option(help="cut-6: six of the teacher's layers; a folder, id@commit, a config's .json.")
    ],
    data: Data,
    teacher: Teacher = "",
    column: Column = "text",
    length: Length = 128,
    rows: Rows = 0,
    held_rows: Annotated[int, typer.Option(help="Held-out sequences that are judged, 0 for all.", min=0)] = 64,
    storage: Storage = "top_k",
    kept: Kept = 64,
    made: Annotated[
        Path | None, typer.Option("--cache", help="A folder of lm cache make, in place of --storage and --kept.")
    ] = None,
    threads: Threads = 0,
    as_json: Json = False,
) -> None:
    """Train a student: on labels, or on a teacher's law. Killed and started again it goes on; done, it is loaded."""
    from kdnb.studies.language_models import evaluation, models, runs, target_cache
    from kdnb.studies.language_models.caching import Wanted

    if not changes.get("alpha") and (idle := [name for name in _SOFT if changes.get(name, _SOFT[name]) != _SOFT[name]]):
        raise ValueError(f"{idle[0]} is of the soft target, whose weight alpha is 0: give --alpha too")
    runs.threads(threads)
    source: Language | None = models.load(teacher) if teacher else None
    tokenizer = source.tokenizer if source else models.student(student, None, 1, 0).tokenizer
    parts = _material(tokenizer, data, column, length, rows)
    held = parts["validation"].head(held_rows) if held_rows else parts["validation"]
    if made:
        if (targets := changes.setdefault("targets", "cache")) != "cache":
            raise ValueError(f"a cache is for targets cache, got targets {targets}")
        storage = target_cache.read_manifest(made).storage
    if storage == "sampled" and changes.get("targets") == "cache":
        changes.setdefault("variant", "sampled")
    wanted = Wanted(storage=storage, kept=kept, tau=changes.get("tau", 1.0) if storage != "hidden" else 1.0)
    arm = runs.Arm(student=student, changes=changes, cache=made or wanted)
    with _Progress() as progress:
        config, record = runs.ensure(runs.Material(parts["train"], held, source), arm, keep=True, on_step=progress.step)
    told = {name: value for name, value in record.metrics.items() if isinstance(value, int | float)}
    _tell(config.run_id(), told)
    if source is not None:
        for row in evaluation.by_teacher_entropy(record.arrays):
            where = f"{row['from']:g} to {row['to']:g} nats, {row['share']:.0%} of the tokens"
            print(f"  kl where the teacher has {where}: {row['mean']:.3f} nats")
        for row in evaluation.by_position(record.arrays):
            print(f"  kl after {row['from']} to {row['to']} tokens of a sequence: {row['mean']:.3f} nats")
    for name in ("length_ratio", "sampled_length_ratio"):
        if evaluation.alarming(ratio := told.get(name, 1.0)):
            print(
                f"ALARM, {name}: the student's texts are {ratio:.2f} times as long as its teacher's, "
                "expected 0.5 to 2; do the texts it learned from have ends?"
            )
    print(f"student: {runs.model_folder(config)}")
    finish(as_json, {"run_id": config.run_id(), "model": str(runs.model_folder(config)), **told})


class _Progress:
    """A bar on a terminal; nothing where there is none."""

    def __enter__(self) -> "_Progress":
        from tqdm import tqdm

        self.bar = tqdm(unit="step", disable=None)
        return self

    def step(self, step: int, steps: int, loss: float) -> None:
        """After an optimiser step."""
        self.bar.total = steps
        self.bar.update(step - self.bar.n)
        self.bar.set_postfix(loss=f"{loss:.3f}", refresh=False)

    def __exit__(self, *_: object) -> None:
        self.bar.close()


def _tell(run_id: str, told: dict[str, float]) -> None:
    units = {"nll": "nats", "entropy": "nats", "teacher_entropy": "nats", "kl": "nats"}
    print(f"{run_id}, held-out text")
    for name, value in told.items():
        number = f"{value:,}" if isinstance(value, int) else f"{value:.3f}"
        print(f"  {name:<20} {number} {units.get(name, '')}".rstrip())


@app.command()
def check(
    teacher: Annotated[str, typer.Argument(help="smollm2, a folder, or id@commit of the hub.")],
    student: Annotated[str, typer.Argument(help="cut-6, a folder, id@commit, a config's .json.")],
    data: Annotated[str, typer.Option(help="Text on which the teacher's perplexity is told.")] = "",
    column: Column = "text",
    length: Length = 128,
    as_json: Json = False,
) -> None:
    """Tell whether teacher and student fit, from tokenizer to head, and their licences; exit code 2 if not."""
    from kdnb.studies.language_models import checks, models

    source = models.load(teacher)
    learner = models.student(student, source, source.vocabulary, 0)
    blocks = _material(source.tokenizer, data, column, length, 100)["validation"] if data else None
    found = checks.check(source, learner, blocks)
    marks = {True: "fits", False: "DOES NOT FIT", None: "note"}
    for one in found:
        print(f"{marks[one.fits]:<12} {one.what}: {one.why}")
    finish(as_json, {"findings": [{"what": one.what, "fits": one.fits, "why": one.why} for one in found]})
    if bad := [one for one in found if one.fits is False]:
        raise Refused(f"{teacher} and {student} do not fit: {bad[0].what}: {bad[0].why}")


@app.command()
def fetch(
    corpus: Annotated[str, typer.Argument(help="id@commit of a data set of the hub, or id@commit:config.")],
    documents: Annotated[int, typer.Option(help="Documents at least, whole shards of them; 0 for all.")] = 100_000,
    column: Column = "text",
    shard: Annotated[int, typer.Option(help="Documents of a shard.")] = 10_000,
    as_json: Json = False,
) -> None:
    """Stream a large corpus into shards that stay as they are, for --data; cut off and started again it goes on."""
    from kdnb.studies.language_models import corpora

    if (wanted := corpora.named(corpus, column)) is None:
        raise ValueError(f"{corpus}: expected a data set of the hub with its commit, as in owner/name@<40 digits>")
    folder = corpora.fetch(wanted, documents, shard=shard)
    print(f"corpus: {folder}")
    finish(as_json, {"folder": str(folder)})


@app.command()
def plan(
    teacher: Annotated[float, typer.Option(help="Weights a token is multiplied with: 8e9.")],
    student: Annotated[float, typer.Option(help="The same of the student.")],
    tokens: Annotated[float, typer.Option(help="Of the text, read once in an epoch.")],
    epochs: Annotated[int, typer.Option(help="Over the text.")] = 1,
    students: Annotated[int, typer.Option(help="That learn from one teacher; costs are those of all.")] = 1,
    vocabulary: Annotated[int, typer.Option(help="Rows of the heads.")] = 128_256,
    teacher_width: Annotated[int, typer.Option(help="Of the teacher's hidden states.")] = 4096,
    student_width: Annotated[int, typer.Option(help="Of the student's.")] = 2048,
    sequences: Annotated[int, typer.Option(help="Of a forward pass.")] = 8,
    length: Length = 2048,
    kept: Kept = 64,
    device: Annotated[str, typer.Option(help="H100, H200 or A100, by its data sheet.")] = "H100",
    utilization: Annotated[float, typer.Option(help="Share of its bf16 peak that is reached.")] = 0.4,
    as_json: Json = False,
) -> None:
    """Tell what a distillation costs before it is begun: FLOPs and hours of each way, disk and memory."""
    from kdnb.studies.language_models import cost

    if device not in cost.DEVICES:
        raise ValueError(f"device must be one of {', '.join(cost.DEVICES)}, got {device!r}")
    told = cost.cost(
        cost.Plan(
            teacher=teacher,
            student=student,
            tokens=tokens,
            epochs=epochs,
            students=students,
            vocabulary=vocabulary,
            teacher_width=teacher_width,
            student_width=student_width,
            sequences=sequences,
            length=length,
            kept=kept,
            device=cost.DEVICES[device],
            utilization=utilization,
        )
    )
    print(told.text(tokens))
    never = {name: None if math.isinf(passes) else passes for name, passes in told.break_even.items()}
    finish(as_json, {**asdict(told), "break_even": never})


@cache.command("make")
def cache_make(
    teacher: Teacher,
    data: Data,
    column: Column = "text",
    length: Length = 128,
    rows: Rows = 0,
    storage: Storage = "top_k",
    kept: Kept = 64,
    exponent: Annotated[float, typer.Option(help="sampled: of the proposal, > 0; 1 draws from the law itself.")] = 1.0,
    tau: Annotated[float, typer.Option(help="Temperature the law is taken at, > 0.")] = 1.0,
    seed: Annotated[int, typer.Option(help="sampled: of the draws.")] = 0,
    shard_rows: Annotated[int, typer.Option(help="Sequences of a shard.")] = 64,
    engine: Annotated[str, typer.Option(help="inline, shard or ray.")] = "inline",
    shard: Annotated[str, typer.Option(help="shard: i/n, this process's share.")] = "1/1",
    workers: Annotated[int, typer.Option(help="ray: shards at a time.")] = 0,
    address: Annotated[str, typer.Option(help="ray: of a running cluster.")] = "",
    threads: Threads = 0,
    as_json: Json = False,
) -> None:
    """Run the teacher over the train text once and keep its law; start it again after any end, and it goes on."""
    from kdnb.cli.sweeps import shard_of
    from kdnb.studies.language_models import caching, models, target_cache
    from kdnb.sweeps.engines import How

    if storage != "sampled" and (exponent, seed) != (1.0, 0):
        raise ValueError(f"--{'seed' if seed else 'exponent'} is of draws: --storage sampled, got {storage}")
    how = How(engine=engine, shard=shard_of(shard, engine), workers=workers, address=address, threads=threads)
    source = models.load(teacher)
    blocks = _material(source.tokenizer, data, column, length, rows)["train"]
    wanted = caching.Wanted(storage, kept, exponent, tau, seed, shard_rows)
    manifest = caching.manifest_of(source, blocks, wanted)
    folder = target_cache.begin(manifest, blocks)
    print(f"cache: {folder}, {manifest.shards} shards, {manifest.bytes_per_token} bytes a token")
    caching.make(folder, teacher, how, print)
    finish(as_json, {"folder": str(folder), "shards": manifest.shards, "bytes_per_token": manifest.bytes_per_token})


@cache.command("verify")
def cache_verify(folder: Folder, as_json: Json = False) -> None:
    """Read every byte of a cache, and tell what mass of the law it leaves out; exit code 2 if a shard is not whole."""
    from kdnb.studies.language_models import target_cache

    found = target_cache.verify(folder)
    manifest = target_cache.read_manifest(folder)
    good = manifest.shards - len(found.missing) - len(found.corrupt)
    print(f"{folder}: {good} of {manifest.shards} shards as written")
    for name in ("missing", "corrupt", "foreign"):
        if values := getattr(found, name):
            print(f"{name}: {', '.join(map(str, values))}")
    told = target_cache.left_out(folder) if found.whole else {}
    for name, value in told.items():
        print(f"{name}: {value:,}" if isinstance(value, int) else f"{name}: {value:.4f}")
    finish(as_json, {"missing": found.missing, "corrupt": found.corrupt, "foreign": found.foreign, **told})
    if not found.whole:
        raise target_cache.CacheMismatch(
            f"{folder}: {len(found.missing)} shards missing, {len(found.corrupt)} corrupt; delete the corrupt ones and "
            "make the cache again, which makes what is missing"
        )


@cache.command("plan")
def cache_plan(
    tokens: Annotated[int, typer.Option(help="Of the text.", min=1)],
    vocabulary: Annotated[int, typer.Option(help="Rows of the teacher's head.", min=1)],
    width: Annotated[int, typer.Option(help="Of the teacher's hidden states.", min=1)],
    length: Length = 128,
    kept: Kept = 64,
    as_json: Json = False,
) -> None:
    """Tell what a cache takes on disk, before it is made: each way of storing it beside whole fp16 laws."""
    from kdnb.studies.language_models import caching

    rows, result = -(-tokens // length), {}
    for storage in ("top_k", "sampled", "hidden"):
        facts = caching.plan(rows, length, vocabulary, width, caching.Wanted(storage=storage, kept=kept))
        result[storage] = facts
        name = f"{storage} {kept}" if storage != "hidden" else storage
        print(f"{name:<14} {facts['bytes_per_token']:>9,} bytes a token  {facts['bytes'] / 1e9:>10,.2f} GB")
    print(f"{'whole laws':<14} {2 * vocabulary:>9,} bytes a token  {facts['dense_bytes'] / 1e9:>10,.2f} GB")
    print(f"free here: {facts['free_bytes'] / 1e9:,.0f} GB")
    finish(as_json, result)


@app.command()
def export(
    run_id: Annotated[str, typer.Argument(help="Of `kdnb lm train`.")],
    folder: Annotated[Path, typer.Argument(help="A new or empty folder.", parser=on_this_machine)],
    as_json: Json = False,
) -> None:
    """Copy a student into a plain folder that AutoModelForCausalLM loads, as a model or as an assistant_model."""
    from kdnb.studies.language_models import export as out

    out.export(run_id, folder)
    print(f"student: {folder}")
    finish(as_json, {"run_id": run_id, "folder": str(folder)})
