"""kdnb: is knowledge distillation just label smoothing? Run it and see."""

__version__ = "0.1.0"
