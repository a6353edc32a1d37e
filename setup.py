"""What a wheel takes along of the repository: notebooks, runs, glossary, explorer. pyproject.toml says all else."""

import shutil
from pathlib import Path

SHIPPED = ("notebooks", "outputs/reference/runs", "outputs/reference/labels", "outputs/reference/simulations")
FILES = ("docs/glossary.md", "docs/explorer.html")


def ship(root: Path, target: Path) -> None:
    """Copy what the package reads beside its code into `kdnb/shipped`.

    Args:
        root: of the repository.
        target: the folder, made anew.
    """
    shutil.rmtree(target, ignore_errors=True)
    for folder in SHIPPED:
        shutil.copytree(root / folder, target / folder, ignore=shutil.ignore_patterns(".*", "__pycache__"))
    for file in FILES:
        (target / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / file, target / file)


if __name__ == "__main__":
    from setuptools import setup
    from setuptools.command.build_py import build_py

    class WithNotebooks(build_py):
        """The package's files, and those of SHIPPED where the package is not read from the repository itself."""

        def run(self):
            super().run()
            if not self.editable_mode:
                ship(Path(__file__).resolve().parent, Path(self.build_lib).resolve() / "kdnb" / "shipped")

    setup(cmdclass={"build_py": WithNotebooks})
