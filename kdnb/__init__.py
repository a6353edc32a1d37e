"""kdnb: is knowledge distillation just label smoothing? Run it and see."""

import os

# Before torch is loaded: threads that wait by spinning slow a busy machine down many times over, threads that go to
# sleep at once wake too late for the next of some thousand short operations in a step; a few microseconds do for both.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ["OMP_WAIT_POLICY"] = "passive"
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
# Large tensors on large pages: fresh memory of a few MiB in every operation otherwise costs more than the arithmetic.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
# oneDNN keeps a compiled product for each shape; batches of many lengths fill hundreds of MiB and gain no time.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "128")
# Deterministic matrix products on a GPU need this before CUDA starts.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
# Nothing is told to anyone: the hub's client and Ray read these when they are imported.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

__version__ = "0.1.0"
