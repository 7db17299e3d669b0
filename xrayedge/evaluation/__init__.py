"""How good a model is on labelled images: on a workstation or a device, without Keras.

A frontal check's evaluation needs scipy, the report matplotlib and scikit-learn.
"""

from .bootstrap import Metric, auc, divided, intervals, mean, patient_numbers, share
from .classes import (
    Evaluation,
    at_operating_point,
    check_labels,
    evaluate,
    evaluate_by,
    rows_by,
)
from .gate import GateEvaluation, evaluate_gate
from .judging import Judged, judge
from .localisation import Places, localise
from .metrics import (
    CalibrationBin,
    accuracy,
    balanced_accuracy,
    calibration_bins,
    class_metrics,
    macro_auc,
)
from .scoring import Judgement, ScoringModel

__all__ = [
    "CalibrationBin",
    "Evaluation",
    "GateEvaluation",
    "Judged",
    "Judgement",
    "Metric",
    "Places",
    "ScoringModel",
    "accuracy",
    "at_operating_point",
    "auc",
    "balanced_accuracy",
    "calibration_bins",
    "check_labels",
    "class_metrics",
    "divided",
    "evaluate",
    "evaluate_by",
    "evaluate_gate",
    "intervals",
    "judge",
    "localise",
    "macro_auc",
    "mean",
    "patient_numbers",
    "rows_by",
    "share",
]
