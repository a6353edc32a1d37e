"""Numbers that others published on this study's subjects, each with where it stands."""

BAN_CIFAR100 = [  # test error [%], Furlanello et al. 2018, as a secondary note quotes it; not checked against the paper
    {"network": "DenseNet-112-33", "teacher": 18.25, "BAN-1": 17.61, "BAN-2": 17.22, "BAN-3": 16.59,
     "ensemble of 2": 15.77, "ensemble of 3": 15.68},
    {"network": "DenseNet-90-60", "teacher": 17.69, "BAN-1": 16.62, "BAN-2": 16.44, "BAN-3": 16.72,
     "ensemble of 2": 15.39, "ensemble of 3": 15.74},
    {"network": "DenseNet-80-80", "teacher": 17.16, "BAN-1": 16.26, "BAN-2": 16.30, "BAN-3": 15.50,
     "ensemble of 2": 15.46, "ensemble of 3": 15.14},
    {"network": "DenseNet-80-120", "teacher": 16.87, "BAN-1": 16.13, "BAN-2": 16.13, "BAN-3": float("nan"),
     "ensemble of 2": 15.13, "ensemble of 3": 14.90},
]  # fmt: skip
