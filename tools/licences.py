"""Writes docs/licences.md: the licence of each installed dependency, and whether kdnb may be used with it under MIT.

`make licences` runs it in the environment of `make test`. It reads what packages say of themselves, first their SPDX
expression, then their licence field, then their classifier, then the first line of their licence's text. Exit code 1:
one has a licence that is not in ALLOWED, or none that could be read; nothing is written then.
"""

import importlib.metadata
import re
import sys
import textwrap
from collections import defaultdict
from email.message import Message
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "licences.md"
LOCKS = (ROOT / "requirements.lock", ROOT / "requirements-torch.lock")
PERMISSIVE = (
    "0BSD", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0",
    "CNRI-Python", "ISC", "MIT", "MIT-0", "MIT-CMU", "PSF", "PSF-2.0", "Unlicense", "Zlib",
)  # fmt: skip
BY_FILE = ("MPL-2.0",)
ALLOWED = {*PERMISSIVE, *BY_FILE}
SPELLED = {  # how a licence field or classifier begins, in lower case -> SPDX; "BSD" and "PSF" where no more is said
    "apache": "Apache-2.0",
    "3-clause bsd": "BSD-3-Clause",
    "bsd-3-clause": "BSD-3-Clause",
    "bsd 3-clause": "BSD-3-Clause",
    "bsd-2-clause": "BSD-2-Clause",
    "bsd 2-clause": "BSD-2-Clause",
    "bsd": "BSD",
    "isc": "ISC",
    "mit": "MIT",
    "mozilla public license 2.0": "MPL-2.0",
    "psf": "PSF",
    "python software foundation": "PSF",
}


def normal(name: str) -> str:
    """A package's name as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def spelled(words: str) -> str:
    """The SPDX name of a licence told in other words; "" if it is not known."""
    text = words.strip().lower()
    return next((name for start, name in SPELLED.items() if text.startswith(start)), "")


def first_line(package: importlib.metadata.Distribution) -> str:
    """The first line of the licence that a package brings along; "" if it brings none."""
    texts = [path for path in package.files or [] if path.stem.upper() in ("LICENSE", "LICENCE", "COPYING")]
    return next((line for path in texts for line in path.read_text().splitlines() if line.strip()), "")


def licence(told: Message, text: str = "") -> str:
    """An SPDX expression of a package's metadata, else of its licence's first line; "" if neither can be read."""
    if expression := told.get("License-Expression"):
        return expression
    words = (told.get("License") or "").strip()
    if words and all(part in ALLOWED for part in parts(words)):
        return words
    classifiers = [one.split(" :: ")[-1] for one in told.get_all("Classifier") or [] if one.startswith("License")]
    return next(filter(None, map(spelled, [words, *classifiers, text])), "")


def parts(expression: str) -> list[str]:
    """The licences of an expression, all of which hold (AND) or of which one may be chosen (OR)."""
    return [part.strip(" ()") for part in re.split(r"\b(?:AND|OR)\b", expression)]


def allowed(expression: str) -> bool:
    """Whether every licence that holds, or one that may be chosen, is in ALLOWED."""
    choices = [choice.split(" AND ") for choice in expression.replace("(", "").replace(")", "").split(" OR ")]
    return any(all(part.strip() in ALLOWED for part in choice) for choice in choices)


def locked() -> set[str]:
    """Names of all packages in the locks, those of other systems among them."""
    return {name for path in LOCKS for name in re.findall(r"^([a-z0-9][\w.-]*)==", path.read_text(), re.MULTILINE)}


def installed(names: set[str]) -> dict[str, tuple[str, str, str]]:
    """Name as the index compares it -> (name, version, licence), of those that are installed here."""
    found = {}
    for one in importlib.metadata.distributions():
        told = one.metadata
        if normal(told["Name"]) in names:
            found[normal(told["Name"])] = (told["Name"], told["Version"], licence(told, first_line(one)))
    return dict(sorted(found.items()))


def page(names: set[str], packages: dict[str, tuple[str, str, str]]) -> str:
    """The page.

    Args:
        names: of all locked packages.
        packages: see `installed`; each with an allowed licence.
    """
    by_licence = defaultdict(list)
    for name, _, expression in packages.values():
        by_licence[expression].append(name)
    rows = [f"| {one} | {len(by_licence[one])} | {', '.join(by_licence[one])} |" for one in sorted(by_licence)]
    absent = sorted(names - set(packages))
    cuda = [name for name in absent if name.startswith(("nvidia-", "cuda-"))]
    others = [name for name in absent if name not in cuda]
    weak = sorted(name for name, _, expression in packages.values() if set(parts(expression)) & set(BY_FILE))
    return wrapped(f"""\
# Licences of what kdnb needs

*Made by `make licences` from what the {len(packages)} packages of the locks that were installed say of themselves.*

kdnb is MIT and holds no code of these packages: it imports them, and pip fetches them from the package index. Each
allows that. All are permissive but these: {", ".join(weak)}.
Their MPL-2.0 asks for the source of its own files, if they are changed and handed on, which kdnb does not do. None is
under the GPL or the AGPL. "BSD" and "PSF" are as told, without a number of clauses or a version.

| licence | packages | which |
|---|---|---|
{chr(10).join(rows)}

Not looked at, since they are for other systems, other Pythons or NVIDIA cards: {", ".join(others)}.

On Linux PyPI's torch brings NVIDIA's libraries for CUDA. They were not looked at either, and have terms of their own:
{", ".join(cuda)}. [running.md](running.md) has the way without them.

Texts, images and weights that are fetched have licences of their own: [data_cache/README.md](../data_cache/README.md).
""")


def wrapped(text: str) -> str:
    """Paragraphs in lines of 120 characters; headings and tables as they are."""
    blocks = text.rstrip("\n").split("\n\n")
    return (
        "\n\n".join(one if one[0] in "#|" else textwrap.fill(one, 120, break_on_hyphens=False) for one in blocks) + "\n"
    )


def main() -> None:
    """Write the page, or say which packages stand in the way."""
    names = locked()
    packages = installed(names)
    if bad := [f"{name} ({told or 'none told'})" for name, _, told in packages.values() if not allowed(told)]:
        sys.exit(f"tools/licences.py: licences to be looked at before they are added to ALLOWED: {', '.join(bad)}")
    PAGE.write_text(page(names, packages), encoding="utf-8")
    print(PAGE.relative_to(ROOT))


if __name__ == "__main__":
    main()
