"""Structured pruning: remove whole channels, and train the rest on the original network's output.

The result is a plain chain of 3x3 convolutions like the original, only narrower, so every engine
runs it at full speed. Channels are judged by how much they contribute to the next layer's input (as
in ThiNet, Luo et al. 2017); the remaining part of each layer is fitted by least squares to the
original layer's output (He et al. 2017); and the network is then trained on the original's
activation maps of augmented images (Hinton et al. 2015, Zagoruyko & Komodakis 2017).
"""

from .narrowing import at_its_size, narrow
from .planning import Widths, importance, layer_costs, plan
from .stepwise import FINAL, LABEL_WEIGHT, of_half_the_side, prune

__all__ = [
    "FINAL",
    "LABEL_WEIGHT",
    "Widths",
    "at_its_size",
    "importance",
    "layer_costs",
    "narrow",
    "of_half_the_side",
    "plan",
    "prune",
]
