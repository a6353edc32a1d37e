"""Formulas of Markdown as MathML, which browsers show without a script or a network."""

import re

_MATH = re.compile(r"(`[^`]*`)|\$\$(.+?)\$\$|\$([^$\n]+?)\$", re.DOTALL)


def mathml(markdown: str) -> str:
    """Markdown with each $...$ and $$...$$ as MathML; inline code stays as it is."""
    return _MATH.sub(_converted, markdown)


def _converted(match: re.Match[str]) -> str:
    from latex2mathml.converter import convert

    code, block, inline = match.groups()
    if code is not None:
        return code
    return convert((block or inline).strip(), display="block" if block else "inline").replace("\n", " ")
