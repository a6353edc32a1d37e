"""arXiv 2301.12609: is knowledge distillation label smoothing?"""
