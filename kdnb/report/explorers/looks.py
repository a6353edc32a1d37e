"""A widget and the frames that stand for it: in JupyterLab both, in papermill's copy and in the report the frames."""

import base64
import html
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Frame:
    """One still.

    Attributes:
        text: what it shows, in a sentence; all that a terminal prints of it.
        body: HTML below the sentence.
    """

    text: str
    body: str


@dataclass(frozen=True)
class Strip:
    """Stills folded under a title: HTML in notebooks and report, their sentences in a terminal.

    Attributes:
        title: what is unfolded.
        frames: in the order shown.
    """

    title: str
    frames: tuple[Frame, ...]

    def __repr__(self) -> str:
        return "\n".join([self.title, *(f"  {frame.text}" for frame in self.frames)])

    def _repr_html_(self) -> str:
        shown = "".join(
            f'<div style="margin: 0.6em 0"><div>{html.escape(one.text)}</div>{one.body}</div>' for one in self.frames
        )
        return f"<details><summary>{html.escape(self.title)}</summary>{shown}</details>"


@dataclass(frozen=True)
class Look:
    """What the last line of a cell gives: the widget, then its strip.

    Attributes:
        widget: an ipywidget.
        strip: its stills.
    """

    widget: Any
    strip: Strip

    def _ipython_display_(self) -> None:
        from IPython.display import display

        display(self.widget, self.strip)


def image(picture: str, alt: str) -> str:
    """An SVG as an HTML image: JupyterLab drops inline SVG from outputs that it does not trust.

    Args:
        picture: a whole document.
        alt: what is seen, in a sentence or two.
    """
    data = base64.b64encode(picture.encode()).decode()
    return f'<img src="data:image/svg+xml;base64,{data}" alt="{html.escape(alt)}" style="max-width: 100%">'
