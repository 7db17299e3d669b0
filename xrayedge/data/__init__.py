"""Labelled images: manifests, folders, splits by patient. Needs no Keras."""

from .loading import load_dataset
from .reading import model_inputs, read_sample, shrink_to
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
from .training_data import TrainingData, load_to_evaluate

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
    "TrainingData",
    "load_dataset",
    "load_to_evaluate",
    "model_inputs",
    "read_sample",
    "shrink_to",
]
