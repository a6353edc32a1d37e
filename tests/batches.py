"""Random logits for the tests, by seed and by hypothesis."""

import torch
from hypothesis import strategies as st


def random_batch(num_classes: int, rows: int = 7, seed: int = 0, dtype=torch.float64, scale: float = 3.0):
    """Logits (rows, K) and labels (rows,); every class is met where the rows allow it."""
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(rows, num_classes, generator=generator, dtype=torch.float64)
    return logits.to(dtype), torch.arange(rows) % num_classes


@st.composite
def logits_batches(draw, most_rows: int = 4, most_classes: int = 6, size: float = 40.0):
    """Tensors (N, K) in float64: N >= 1, K >= 2, entries within ±size."""
    rows, classes = draw(st.integers(1, most_rows)), draw(st.integers(2, most_classes))
    numbers = st.floats(-size, size, allow_nan=False, allow_subnormal=False)
    flat = draw(st.lists(numbers, min_size=rows * classes, max_size=rows * classes))
    return torch.tensor(flat, dtype=torch.float64).reshape(rows, classes)
