"""kdnb: is knowledge distillation just label smoothing? Run it and see."""

import os

# Before torch is loaded: threads that wait by spinning slow a busy machine down many times over.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

__version__ = "0.1.0"
