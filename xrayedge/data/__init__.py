"""Labelled images: manifests, folders, splits by patient. Needs no Keras."""

from .loading import load_dataset
from .reading import model_inputs, read_sample
from .samples import (
    ARTIFICIAL_LABEL,
    HEALTHY,
    INVERTED_LABEL,
    NON_CLASSES,
    SPLITS,
    TURNED_LABEL,
    Box,
    Dataset,
    Sample,
)

__all__ = [
    "ARTIFICIAL_LABEL",
    "HEALTHY",
    "INVERTED_LABEL",
    "NON_CLASSES",
    "SPLITS",
    "TURNED_LABEL",
    "Box",
    "Dataset",
    "Sample",
    "load_dataset",
    "model_inputs",
    "read_sample",
]
