"""How good a model is on labelled pictures. Needs scikit-learn and scipy, but no Keras."""

from .metrics import (
    CalibrationBin,
    Evaluation,
    Figure,
    GateEvaluation,
    calibration_bins,
    check_labels,
    evaluate,
    evaluate_by,
    evaluate_gate,
    point_figures,
    rows_by,
)
from .scoring import Judgement, ScoringModel

__all__ = [
    "CalibrationBin",
    "Evaluation",
    "Figure",
    "GateEvaluation",
    "Judgement",
    "ScoringModel",
    "calibration_bins",
    "check_labels",
    "evaluate",
    "evaluate_by",
    "evaluate_gate",
    "point_figures",
    "rows_by",
]
