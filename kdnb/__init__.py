"""kdnb: is knowledge distillation just label smoothing? Run it and see."""

import os

# Before torch is loaded: threads that wait by spinning slow a busy machine down many times over.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# oneDNN keeps a compiled product for each shape; batches of many lengths fill hundreds of MiB and gain no time.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "128")

__version__ = "0.1.0"
