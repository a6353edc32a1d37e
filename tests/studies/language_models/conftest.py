"""What the tests of language models share."""

import pytest

from kdnb import paths


@pytest.fixture(scope="module")
def reference():
    """The committed records alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "RUNS", paths.ROOT / "none")
        patch.setattr(paths, "REFERENCE", paths.ROOT / "outputs" / "reference" / "runs")
        yield
