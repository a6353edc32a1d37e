"""Tables in a notebook's cells: what comes from data stands there as text, never as markup.

pandas escapes what a DataFrame shows; a Styler, which most of our tables are, shows texts, headers and caption as HTML.
"""

import copy
import html

from pandas.io.formats.style import Styler


def escape_in_cells() -> None:
    """From here on every Styler that this notebook shows is `escaped`; nothing happens outside IPython."""
    from IPython import get_ipython

    if shell := get_ipython():
        shell.display_formatter.formatters["text/html"].for_type(Styler, lambda table: escaped(table).to_html())


def escaped(table: Styler) -> Styler:
    """A copy of a styled table whose cells, row and column labels, their names and the caption are escaped."""
    safe = copy.deepcopy(table)
    safe.data = safe.data.map(_escape)
    for axis in (0, 1):
        safe.format_index(escape="html", axis=axis)
        if hasattr(safe, "format_index_names"):  # pandas 3; the names of the axes are our own words, not data
            safe.format_index_names(escape="html", axis=axis)
    return safe.set_caption(_escape(safe.caption)) if safe.caption else safe


def _escape(value):
    """A text, or what is shown as its repr, escaped; a number as it is, for the format that follows."""
    return html.escape(str(value)) if isinstance(value, str | list | tuple | set | dict) else value
