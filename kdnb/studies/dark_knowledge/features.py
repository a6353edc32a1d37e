"""Hidden states: which layer learns from which, how they are read, and the losses on them that train beside a student.

Read at the first token of texts, since that is what kdnb's classifiers read and all that its encoder computes of a
last layer; of images at the output of each ReLU, feature maps averaged over their pixels. Attention is in
`kdnb.studies.dark_knowledge.attention`.
"""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss, normalize

from kdnb import files, paths
from kdnb.core import store
from kdnb.core.batches import Inputs, sorted_batches
from kdnb.core.device import autocast, device, on_device, precision
from kdnb.core.predict import MAX_TOKENS
from kdnb.data.splits import TaskData
from kdnb.experiment import teachers
from kdnb.experiment.obtain import lock
from kdnb.models.text import Classifier, Pretrained
from kdnb.models.vision import ImageClassifier
from kdnb.studies.dark_knowledge.relations import rkd_loss

if TYPE_CHECKING:
    from kdnb.studies.dark_knowledge.methods import FeatureKD, RelationKD


@dataclass(frozen=True, order=True)
class Depth:
    """Where a hidden state is read: 0 behind the embeddings, m = 1..M behind layer m."""

    number: int

    def __post_init__(self):
        if self.number < 0:
            raise ValueError(f"a depth must be 0 (embeddings) or a layer's number from 1 on, got {self.number}")

    @property
    def attention(self) -> int:
        """Its place in a transformers model's `attentions`, which unlike `hidden_states` has none for embeddings."""
        if self.number == 0:
            raise ValueError("depth 0 is the embeddings, which attend to nothing")
        return self.number - 1


class Pair(NamedTuple):
    """A student's depth and the teacher's that it learns from."""

    student: Depth
    teacher: Depth


States = Mapping[Depth, Tensor]  # (N, width) each
Reader = Callable[[nn.Module, Inputs, str], dict[str, np.ndarray]]  # model, train rows, precision -> arrays by name


def uniform(student_layers: int, teacher_layers: int) -> list[Pair]:
    """Layer m from round(m M_t / M_s), halves up, m = 1..M_s: 2.67 teacher layers per layer need a rounding rule."""
    return [
        _pair(m, (2 * m * teacher_layers + student_layers) // (2 * student_layers))
        for m in range(1, student_layers + 1)
    ]


def skip(student_layers: int, teacher_layers: int) -> list[Pair]:
    """Layer m from m floor(M_t / M_s), without the last (Sun et al. 2019, PKD-Skip): every other one of 12 for 6."""
    _no_deeper(student_layers, teacher_layers)
    return [_pair(m, m * (teacher_layers // student_layers)) for m in range(1, student_layers)]


def last(student_layers: int, teacher_layers: int) -> list[Pair]:
    """The teacher's last layers but the very last (Sun et al. 2019, PKD-Last): 7..11 of 12 for 6."""
    _no_deeper(student_layers, teacher_layers)
    return [_pair(m, teacher_layers - student_layers + m) for m in range(1, student_layers)]


def tinybert(student_layers: int, teacher_layers: int) -> list[Pair]:
    """Embeddings from embeddings, layer m from m M_t / M_s (Jiao et al. 2020); ValueError unless that is whole."""
    if teacher_layers % student_layers:
        raise ValueError(f"TinyBERT's map needs a multiple of {student_layers} teacher layers, got {teacher_layers}")
    return [_pair(m, m * teacher_layers // student_layers) for m in range(student_layers + 1)]


MAPS: dict[str, Callable[[int, int], list[Pair]]] = {
    "uniform": uniform, "skip": skip, "last": last, "tinybert": tinybert,
}  # fmt: skip


def _no_deeper(student_layers: int, teacher_layers: int) -> None:
    """Raise ValueError for a student with more layers than its teacher, some of which PKD's maps leave nothing."""
    if student_layers > teacher_layers:
        raise ValueError(
            f"PKD's maps need a teacher of at least {student_layers} layers, got {teacher_layers}: expected uniform"
        )


def _pair(student: int, teacher: int) -> Pair:
    return Pair(Depth(student), Depth(teacher))


def sites(model: nn.Module) -> dict[Depth, nn.Module]:
    """The parts of a classifier whose outputs are its hidden states; ValueError if it is none that is known."""
    if isinstance(model, Classifier):  # the last layer is evaluated at the first token, by a method of its own
        found = [model.encoder.norm, *model.encoder.layers[:-1], model.encoder]
    elif isinstance(model, Pretrained):
        found = [model.encoder.embeddings, *model.encoder.encoder.layer]
    elif isinstance(model, ImageClassifier) and isinstance(model.body, nn.Sequential):
        return {Depth(m): part for m, part in enumerate((p for p in model.body if isinstance(p, nn.ReLU)), 1)}
    else:
        raise ValueError(f"no hidden states are read from {type(getattr(model, 'body', model)).__name__}")
    return {Depth(number): part for number, part in enumerate(found)}


@contextlib.contextmanager
def captured(model: nn.Module) -> Iterator[dict[Depth, Tensor]]:
    """The hidden states (B, width) of a model's last forward pass, at least float32; its hooks go with the block."""
    states: dict[Depth, Tensor] = {}

    def keep(depth: Depth):
        def hook(_module, _inputs, output) -> None:
            states[depth] = _read(output[0] if isinstance(output, tuple) else output)

        return hook

    handles = [part.register_forward_hook(keep(depth)) for depth, part in sites(model).items()]
    try:
        yield states
    finally:
        for handle in handles:
            handle.remove()


def _read(output: Tensor) -> Tensor:
    """(B, width) of a layer's output: the first of (B, L, width), the mean over the pixels of (B, width, H, W)."""
    output = output.to(torch.promote_types(output.dtype, torch.float32))
    return output[:, 0] if output.ndim == 3 else output.mean(dim=(2, 3)) if output.ndim == 4 else output


def read_states(model: nn.Module, inputs: Inputs, kind: str) -> dict[Depth, Tensor]:
    """Hidden states of every example, in the split's order, in eval mode: (N, width) float32 on the CPU.

    Args:
        model: a classifier; its training mode is restored afterwards.
        inputs: what it reads of N examples.
        kind: "bf16" or "fp32".
    """
    was_training, rows_of, parts = model.training, [], []
    model.eval()
    with torch.no_grad(), autocast(kind), captured(model) as states:
        for rows in sorted_batches(inputs.lengths, MAX_TOKENS):
            model(**on_device(inputs.batch(rows)))
            rows_of.append(rows)
            parts.append({depth: state.cpu() for depth, state in states.items()})
    model.train(was_training)
    back = torch.from_numpy(np.argsort(np.concatenate(rows_of)))
    return {depth: torch.cat([part[depth] for part in parts])[back] for depth in parts[0]}


def teacher_states(run_id: str, data: TaskData) -> dict[Depth, Tensor]:
    """Hidden states of a stored run's model on its train rows.

    A run keeps no weights: its training is repeated once, must give the run's logits to the last bit, and the states
    are kept in outputs/features. No student ever runs its teacher.

    Raises:
        FileNotFoundError: there is no such run, or its own teacher's is gone.
        ValueError: data are not the run's, or trained again it has other logits, as on another machine it may.
    """

    def read(model: nn.Module, inputs: Inputs, kind: str) -> dict[str, np.ndarray]:
        return {str(depth.number): state.numpy() for depth, state in read_states(model, inputs, kind).items()}

    arrays = read_again(run_id, data, "", read)
    return {Depth(int(name)): torch.from_numpy(array) for name, array in arrays.items()}


def read_again(run_id: str, data: TaskData, what: str, read: Reader) -> dict[str, np.ndarray]:
    """What a reader takes from a stored run's model and its train rows: kept in outputs/features, else read now.

    Args:
        run_id: of a run.
        data: it was trained on.
        what: is read, in the file's name; "" for hidden states.
        read: from model, train rows and precision to arrays by name.
    Raises:
        FileNotFoundError: there is no such run, or its own teacher's is gone.
        ValueError: data are not the run's, or trained again it has other logits.
    """
    path = paths.inside(paths.FEATURES, f"{run_id}{what}.npz")
    with lock(f"features-{run_id}{what}"):
        arrays = files.kept_arrays(path)
        if arrays is None:
            arrays = made = _trained_again(run_id, data, read)
            files.write_atomically(path, lambda file: np.savez(file, **made))
    return arrays


def _trained_again(run_id: str, data: TaskData, read: Reader) -> dict[str, np.ndarray]:
    from kdnb.experiment.training import train  # it brings the models, and asks methods for what trains beside them

    if kind_of := store.kind_of(run_id):
        raise ValueError(f"teacher {run_id} ({kind_of}) is no model: it has no hidden states to learn from")
    run, arrays = store.load(run_id), {}
    kind = precision(run.config.precision)
    own_teacher = teachers.load(run.config.teacher_run) if run.config.teacher_run else None
    again = train(
        run.config,
        data,
        own_teacher,
        on_model=lambda model, inputs: arrays.update(read(model, inputs["train"], kind)),
    )
    off = np.abs(again.logits["train"] - run.logits["train"]).max()
    if off:
        raise ValueError(
            f"run {run_id} trained again has other logits (by up to {off:.2g}): its hidden states are gone; "
            "train the teacher anew on this machine"
        )
    return arrays


class Beside(nn.Module, abc.ABC):
    """Trains beside a student and adds a loss on its hidden states; enter it before training, leave it afterwards.

    What it trains is its own: in the optimizer, and no part of the student.
    """

    def __init__(self, model: nn.Module, teacher: States, weight: float):
        """The loss of a student on its teacher's states.

        Args:
            model: the student.
            teacher: depth -> (N, width) on the train rows; constants.
            weight: of the loss.
        """
        super().__init__()
        self.weight, self.depths, self._open = weight, sorted(teacher), lambda: captured(model)
        self.states: Mapping[Depth, Tensor] = {}
        for depth, state in teacher.items():
            self.register_buffer(f"teacher_{depth.number}", state.detach().float(), persistent=False)
        self.to(device())

    def taught(self, depth: Depth, rows: Tensor) -> Tensor:
        """The teacher's states (B, width) on some train rows."""
        return self.get_buffer(f"teacher_{depth.number}")[rows]

    def __enter__(self) -> Self:
        self._block = contextlib.ExitStack()
        self.states = self._block.enter_context(self._open())
        return self

    def __exit__(self, *_) -> None:
        self._block.close()

    @abc.abstractmethod
    def loss(self, rows: Tensor) -> Tensor:
        """The loss before its weight, a scalar, of the student's last forward pass on some train rows (B,)."""

    def forward(self, rows: Tensor) -> Tensor:
        """The weighted loss."""
        return self.weight * self.loss(rows)


class FeatureLoss(Beside):
    """Mean over pairs of layers of ||H^s W - H^t||^2 (TinyBERT's), or of the same of directions, without W (PKD)."""

    def __init__(self, how: FeatureKD, model: nn.Module, teacher: States, widths: Mapping[Depth, int], seed: int = 0):
        """The loss of a student on its teacher's states.

        Args:
            how: its settings.
            model: the student.
            teacher: as `Beside`.
            widths: of the student's states.
            seed: of projections between different widths; between equal ones they start as the identity.
        Raises:
            ValueError: widths that differ where nothing projects, where one projection is to serve several or where a
                map mixes layers; or the map asks for a depth that has no states.
        """
        super().__init__(model, teacher, how.feature_weight)
        self.how, below = how, max(widths).number
        above = max(teacher).number
        self.layers = [depth for depth in sorted(teacher) if depth.number]
        if how.layer_map == "learned":
            if len(wide := {teacher[depth].shape[1] for depth in self.layers}) > 1:
                raise ValueError(f"a learned map mixes layers of one width, got a teacher's of {sorted(wide)}")
            self.theta = nn.Parameter(torch.zeros(below, above))
            self.pairs = [_pair(m, above) for m in range(1, below + 1)]
        else:
            self.pairs = MAPS[how.layer_map](below, above)
        if not self.pairs:
            raise ValueError(f"the map {how.layer_map} leaves a student of {below} layer no pair: expected uniform")
        if any(pair.student not in widths or pair.teacher not in teacher for pair in self.pairs):
            raise ValueError(f"the map {how.layer_map} begins at the embeddings, which an image model has none of")
        shapes = [(teacher[pair.teacher].shape[1], widths[pair.student]) for pair in self.pairs]
        if how.feature_loss == "pkd" and any(high != low for high, low in shapes):
            raise ValueError(f"PKD compares states of one width, got {shapes[0][1]} and {shapes[0][0]}")
        if how.projection == "share" and len(set(shapes)) > 1:
            raise ValueError(f"one projection cannot serve widths {sorted(set(shapes))}: expected per_pair")
        self.projections = nn.ModuleList(_projection(*shape, seed + i) for i, shape in enumerate(self._own(shapes)))
        self.to(device())

    def _own(self, shapes: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """The shapes of the projections there are."""
        bare = self.how.feature_loss in ("pkd", "attention")
        return [] if bare else shapes[:1] if self.how.projection == "share" else shapes

    def map(self) -> Tensor:
        """(M_s, M_t) softmax(theta / temperature): how much each layer learns from each of the teacher's."""
        return (self.theta / self.how.map_temperature).softmax(dim=1)

    def loss(self, rows: Tensor) -> Tensor:
        """See `Beside.loss`."""
        if self.how.layer_map == "learned":
            mixed = torch.einsum("ml,lbd->mbd", self.map(), torch.stack([self.taught(d, rows) for d in self.layers]))
            targets = list(mixed)
        else:
            targets = [self.taught(pair.teacher, rows) for pair in self.pairs]
        terms = [self._term(i, self.states[pair.student], targets[i]) for i, pair in enumerate(self.pairs)]
        return torch.stack(terms).mean()

    def _term(self, i: int, student: Tensor, target: Tensor) -> Tensor:
        if self.how.feature_loss == "pkd":
            return mse_loss(normalize(student, dim=1), normalize(target, dim=1))
        return mse_loss(self.projections[i % len(self.projections)](student), target)


class RelationLoss(Beside):
    """RKD on the last hidden states of both models, whatever their widths."""

    def __init__(self, how: RelationKD, model: nn.Module, teacher: States):
        top = max(teacher)
        super().__init__(model, {top: teacher[top]}, how.relation_weight)
        self.how = how

    def loss(self, rows: Tensor) -> Tensor:
        """See `Beside.loss`."""
        student, teacher = self.states[max(self.states)], self.taught(self.depths[0], rows)
        return rkd_loss(student, teacher, self.how.distance_weight, self.how.angle_weight)


def _projection(teacher_width: int, student_width: int, seed: int) -> nn.Linear:
    """W, (d_t, d_s), without bias: the identity where that fits, else Glorot's uniform from a seed."""
    made = nn.Linear(student_width, teacher_width, bias=False)
    with torch.no_grad():
        if teacher_width == student_width:
            nn.init.eye_(made.weight)
        else:
            nn.init.xavier_uniform_(made.weight, generator=torch.Generator().manual_seed(seed))
    return made


def widths_of(model: nn.Module, inputs: Inputs) -> dict[Depth, int]:
    """The width of each hidden state of a model, seen on one example."""
    return {depth: state.shape[1] for depth, state in read_states(model, inputs.take(np.arange(1)), "fp32").items()}


def least_squares(student: Tensor, teacher: Tensor) -> Tensor:
    """The W (d_s, d_t) that minimises ||H^s W - H^t||^2, of smallest norm where several do; float64."""
    return torch.linalg.lstsq(student.double(), teacher.double(), driver="gelsd").solution


def weight_for_share(share: float, task_loss: Tensor, feature_loss: Tensor, model: nn.Module) -> float:
    """The w at which w ||g_f|| is a share of ||g_task|| + w ||g_f||, norms of the gradients of all a model's weights.

    Args:
        share: in (0, 1).
        task_loss: of the model, its graph alive.
        feature_loss: on the same batch; ValueError if it has no gradient.
        model: whose weights count; what trains beside it does not.
    """
    weights = list(model.parameters())
    task, feature = (
        torch.stack(
            [
                g.norm()
                for g in torch.autograd.grad(loss, weights, retain_graph=True, allow_unused=True)
                if g is not None
            ]
        ).norm()
        for loss in (task_loss, feature_loss)
    )
    if not feature > 0:
        raise ValueError("the feature loss has no gradient at this student: no weight gives it a share")
    return float(share / (1 - share) * task / feature)
