"""The simplex of three classes: where label smoothing and distillation want a model to go, and by which way.

The truth eta, the LS target, the teacher at tau, the optima of both losses and the gradient flow towards them, for one
input x whose labels are drawn from eta. The gradient is that of `kdnb.core.theory` in numpy, which a slider does not
have to wait for; docs/explorer/simplex.js has it once more for the page that needs no kernel. Tests hold all three
together.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from kdnb.analysis.figures import METHOD_COLORS, METHOD_MARKERS, TEACHER_COLOR
from kdnb.report.explorers import svg
from kdnb.report.explorers.looks import Frame, Look, Strip, image

LS, KD = "LS", "KD"
CORNERS = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(3) / 2]])  # of the picture, by class
WIDTH, HEIGHT, SIDE, LEGEND = 760, 400, 390, 480  # of the picture [pixels]
LONGEST = 70  # of an arrow [pixels]
LEVELS = (0.2, 0.4, 0.6, 0.8, 1.0)  # of the contours [nats]
RAYS = 240  # of a contour
STEP, STEPS = 0.25, 240  # of gradient descent on the logits: small enough to look like the flow
TRUTHS = {"mixed": (0.6, 0.3, 0.1), "clear": (0.9, 0.07, 0.03), "torn": (0.48, 0.47, 0.05)}
TEACHERS = {
    "sure": (0.95, 0.04, 0.01),
    "less sure": (0.5, 0.3, 0.2),
    "of another opinion": (0.25, 0.7, 0.05),
}
START = (0.15, 0.25, 0.6)  # the student's posterior before training


@dataclass(frozen=True)
class Scene:
    """One input of a classifier of three classes; all posteriors (3,) in float64, entropies in nats.

    Attributes:
        truth: eta, the probabilities of its labels, each above 0.
        teacher: the teacher's posterior at tau 1, each above 0.
        alpha: weight of the soft target, in [0, 1].
        tau: temperature of teacher and student, > 0.
        start: the student's posterior before training, each above 0.
    """

    truth: tuple[float, float, float] = TRUTHS["mixed"]
    teacher: tuple[float, float, float] = TEACHERS["sure"]
    alpha: float = 0.5
    tau: float = 2.0
    start: tuple[float, float, float] = START

    def __post_init__(self):
        if not (0 <= self.alpha <= 1 and self.tau > 0):
            raise ValueError(f"alpha must be in [0, 1] and tau > 0, got {self.alpha} and {self.tau}")
        for name in ("truth", "teacher", "start"):
            p = np.array(getattr(self, name), dtype=np.float64)
            if p.shape != (3,) or not (p > 0).all() or abs(p.sum() - 1) > 1e-9:
                raise ValueError(f"{name} must be three probabilities above 0 that sum to 1, got {getattr(self, name)}")

    @cached_property
    def tempered(self) -> np.ndarray:
        """p^t_tau."""
        return softmax(np.log(self.teacher), self.tau)

    @cached_property
    def smoothed(self) -> np.ndarray:
        """(1 - alpha) eta + alpha u: the LS target on average, which is the optimum of its loss."""
        return (1 - self.alpha) * np.array(self.truth) + self.alpha / 3

    @cached_property
    def optimum(self) -> np.ndarray:
        """The posterior at tau 1 that minimises the KD loss: (1 - alpha) eta + alpha p^t at tau 1, else by Newton."""
        z = np.log((1 - self.alpha) * np.array(self.truth) + self.alpha * np.array(self.teacher))
        if self.alpha == 1:
            return np.array(self.teacher)
        for _ in range(60):
            slope = self.gradient(z)
            if np.abs(slope).max() < 1e-12:
                break
            change = np.linalg.solve(self._curvature(z), slope)
            z = z - change / max(1.0, np.abs(change).max())  # no logit moves by more than 1
        return softmax(z)

    def gradient(self, logits: np.ndarray, method: str = KD) -> np.ndarray:
        """Gradient of a loss in the logits, on average over the labels; (3,) -> (3,).

        (1 - alpha)(p - eta) + alpha tau (p_tau - p^t_tau); LS is KD by a uniform teacher at tau 1.

        Args:
            logits: the student's.
            method: LS or KD.
        """
        tau, soft = (self.tau, self.tempered) if method == KD else (1.0, 1 / 3)
        hard = softmax(logits) - self.truth
        return (1 - self.alpha) * hard + self.alpha * tau * (softmax(logits, tau) - soft)

    def _curvature(self, z: np.ndarray) -> np.ndarray:
        """The KD loss's Hessian in the logits; a constant added to all of them, which it cannot see, is held fast."""
        parts = [np.diag(q) - np.outer(q, q) for q in (softmax(z), softmax(z, self.tau))]
        return (1 - self.alpha) * parts[0] + self.alpha * parts[1] + np.ones((3, 3))

    def arrow(self, p: np.ndarray, method: str = KD) -> np.ndarray:
        """dp/dt of the gradient flow on the logits, (diag p - p p^T) dz/dt with dz/dt minus the gradient; (3,)."""
        p = np.asarray(p, dtype=np.float64)
        speed = -self.gradient(np.log(p), method)
        return p * (speed - p @ speed)

    def entropy_rate(self, p: np.ndarray, method: str = KD) -> float:
        """dH/dt along the flow at p [nats per unit of time]: -sum_k log p_k dp_k/dt."""
        return float(-np.log(p) @ self.arrow(p, method))

    def path(self, method: str = KD) -> np.ndarray:
        """The way of gradient descent on the logits from the student's posterior; (STEPS + 1, 3)."""
        z = [np.log(self.start)]
        for _ in range(STEPS):
            z.append(z[-1] - STEP * self.gradient(z[-1], method))
        return softmax(np.array(z))

    @property
    def points(self) -> dict[str, np.ndarray]:
        """What the picture marks, by name."""
        return {
            "truth = ERM's optimum": np.array(self.truth),
            "LS target = its optimum": self.smoothed,
            "teacher": np.array(self.teacher),
            "teacher at tau": self.tempered,
            "KD's optimum": self.optimum,
            "student at the start": np.array(self.start),
        }

    @property
    def text(self) -> str:
        """Both optima beside ERM's, in a sentence."""
        base = entropy(np.array(self.truth))
        moved = {name: entropy(p) - base for name, p in ((LS, self.smoothed), (KD, self.optimum))}
        text = "; ".join(f"{name}'s optimum {value:+.3f} nats" for name, value in moved.items())
        return f"alpha {self.alpha:g}, tau {self.tau:g}: entropy minus ERM's: {text}"


STYLES = {  # of the points: color, marker, whether filled
    "truth = ERM's optimum": (METHOD_COLORS["ERM"], METHOD_MARKERS["ERM"], True),
    "LS target = its optimum": (METHOD_COLORS["LS"], METHOD_MARKERS["LS"], True),
    "teacher": (TEACHER_COLOR, "^", False),
    "teacher at tau": (TEACHER_COLOR, "^", True),
    "KD's optimum": (METHOD_COLORS["KD"], METHOD_MARKERS["KD"], True),
    "student at the start": ("black", "x", True),
}


def softmax(logits: np.ndarray, tau: float = 1.0) -> np.ndarray:
    """softmax(z / tau) of a few logits, quicker than scipy's; (..., 3) -> (..., 3)."""
    z = np.asarray(logits) / tau
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def entropy(p: np.ndarray) -> float:
    """H(p) [nats]; (K,), each above 0."""
    return float(-(p * np.log(p)).sum())


def place(p: np.ndarray) -> np.ndarray:
    """Where posteriors lie in the triangle; (..., 3) -> (..., 2)."""
    return np.asarray(p) @ CORNERS


def contour(level: float) -> np.ndarray:
    """Posteriors of one entropy, going round the uniform one; (RAYS + 1, 3), nan where the triangle ends before it.

    Along a ray from u entropy falls all the way, so that each holds the level once or not at all.

    Args:
        level: in (0, log 3) [nats].
    """
    angles = np.linspace(0, 2 * np.pi, RAYS + 1)
    across = np.array([1, -1, 0]) / np.sqrt(2), np.array([1, 1, -2]) / np.sqrt(6)
    ways = np.cos(angles)[:, None] * across[0] + np.sin(angles)[:, None] * across[1]
    end = (1 - 1e-9) / (3 * -ways.min(axis=1))  # where the first probability is spent
    low, high = np.zeros(RAYS + 1), end.copy()
    for _ in range(50):
        middle = (low + high) / 2
        p = 1 / 3 + middle[:, None] * ways
        softer = -(p * np.log(p)).sum(axis=1) > level
        low, high = np.where(softer, middle, low), np.where(softer, high, middle)
    found = 1 / 3 + low[:, None] * ways
    found[high >= end * (1 - 1e-6)] = np.nan
    return found


def draw(scene: Scene) -> str:
    """The triangle as SVG: contours of entropy, the points, the teacher's way over tau, both flows; H in the legend."""
    parts = [svg.line(_seen(contour(level)), svg.LINE) for level in LEVELS]
    parts.append(svg.line(_pixels(np.vstack([CORNERS, CORNERS[:1]])), svg.SOFT))
    over_tau = np.array([softmax(np.log(scene.teacher), tau) for tau in np.geomspace(0.25, 64, 80)])
    parts.append(svg.line(_seen(over_tau), TEACHER_COLOR, 1.5, "2 3"))
    start = np.array(scene.start)
    for method in (LS, KD):
        parts.append(svg.line(_seen(scene.path(method)), METHOD_COLORS[method], 1.5))
        foot, tip = _seen(start), _seen(start + scene.arrow(start, method))
        shorter = min(1.0, LONGEST / max(np.hypot(*(tip - foot)), 1e-9))
        parts.append(svg.arrow(foot, foot + shorter * (tip - foot), METHOD_COLORS[method]))
    for row, (name, p) in enumerate(scene.points.items()):
        color, marker, filled = STYLES[name]
        text, y = f"{name}: H = {entropy(p):.3f}", 60 + 24 * row
        parts.append(svg.mark(marker, _seen(p), color, filled=filled, said=f"{text}, {_probabilities(p)}"))
        parts += [svg.mark(marker, (LEGEND, y - 4), color, filled=filled), svg.words((LEGEND + 14, y), text)]
    parts.append(svg.words((LEGEND - 8, 32), f"H in nats, of at most log 3 = {np.log(3):.3f}", color=svg.SOFT))
    notes = (
        "dotted: the teacher at every tau",
        "lines: gradient flow of LS and of KD",
        "grey: equal entropy, 0.2 apart",
    )
    parts += [svg.words((LEGEND - 8, 230 + 22 * i), note, color=svg.SOFT) for i, note in enumerate(notes)]
    corners = _pixels(CORNERS) + np.array([[0, 18], [0, 18], [0, -8]])
    parts += [svg.words(at, f"class {k}", "middle") for k, at in enumerate(corners, start=1)]
    return svg.document(WIDTH, HEIGHT, parts, alt(scene))


def _pixels(flat: np.ndarray) -> np.ndarray:
    return np.array([36.0, HEIGHT - 34.0]) + SIDE * np.asarray(flat) * [1, -1]


def _seen(p: np.ndarray) -> np.ndarray:
    return _pixels(place(p))


def _probabilities(p: np.ndarray) -> str:
    return f"({', '.join(f'{x:.2f}' for x in p)})"


def alt(scene: Scene) -> str:
    """What `draw` shows, in words."""
    places = "; ".join(f"{name} {_probabilities(p)}" for name, p in scene.points.items())
    return f"Triangle of the posteriors of three classes with lines of equal entropy. {places}. {scene.text}"


FRAMES = (  # alpha, tau, teacher: what the strip shows
    (0.3, 1.0, "sure"),
    (0.3, 1.0, "less sure"),
    (0.9, 1.0, "of another opinion"),
    (0.9, 8.0, "of another opinion"),
)


def strip() -> Strip:
    """Four settings of the widget."""
    frames = []
    for alpha, tau, name in FRAMES:
        scene = Scene(teacher=TEACHERS[name], alpha=alpha, tau=tau)
        frames.append(Frame(f"a teacher {name}, {scene.text}", image(draw(scene), alt(scene))))
    return Strip("The simplex at four settings, without a kernel", tuple(frames))


def explorer(alpha: float = 0.5, tau: float = 2.0) -> Look:
    """Two sliders and two choices that move the picture.

    Args:
        alpha: weight of the soft target, in [0, 1].
        tau: temperature; the slider begins and ends at 0.25 and 16.
    """
    import ipywidgets as widgets

    shown = widgets.HTML()
    inputs = {
        "alpha": widgets.FloatSlider(alpha, min=0, max=1, step=0.05, description="alpha", continuous_update=False),
        "tau": widgets.FloatLogSlider(
            min(max(tau, 0.25), 16.0), base=2, min=-2, max=4, step=0.25, description="tau", continuous_update=False
        ),
        "truth": widgets.Dropdown(options=TRUTHS, value=TRUTHS["mixed"], description="truth"),
        "teacher": widgets.Dropdown(options=TEACHERS, value=TEACHERS["sure"], description="teacher"),
    }

    def show(_change: object = None) -> None:
        scene = Scene(**{name: one.value for name, one in inputs.items()})
        shown.value = f"<p>{scene.text}</p>{draw(scene)}"

    for one in inputs.values():
        one.observe(show, "value")
    show()
    rows = list(inputs.values())
    return Look(widgets.VBox([widgets.HBox(rows[:2]), widgets.HBox(rows[2:]), shown]), strip())
