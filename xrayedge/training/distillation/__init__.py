"""Train a small network on larger ones' maps of augmented images, and on the labels.

The images are augmented and shown to the teachers once, and kept: many passes over them then cost
no more than the small network's own training (Hinton et al. 2015, Zagoruyko & Komodakis 2017).
"""

from .learning import FULL_RATE_WIDTH, at_its_width, learn, lesson
from .student import DISGUISE, distil
from .views import VIEWS, Teachers, Views, with_maps

__all__ = [
    "DISGUISE",
    "FULL_RATE_WIDTH",
    "VIEWS",
    "Teachers",
    "Views",
    "at_its_width",
    "distil",
    "learn",
    "lesson",
    "with_maps",
]
