"""The structured report: finding, probabilities and opacities by TID 1500 (PS3.16)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...result import Screening
from .source import identity_of, lacking
from .writing import (
    DISCLAIMER,
    MANUFACTURER,
    DicomObject,
    Uids,
    finished,
    long_string,
    placeholder,
    uid_of,
)

_SERIES = 9901  # far from the series numbers of a unit, and not the captures'
_SCHEME = "99XRAYEDGE"  # 99: a private coding scheme (PS3.3, 8.2)

#: (value, scheme, meaning) of each class that a standard vocabulary knows. A radiograph can
#: raise the suspicion of COVID-19 and can't confirm it.
_FINDINGS = {
    "covid": ("840544004", "SCT", "Suspected disease caused by SARS-CoV-2"),
    "healthy": ("17621005", "SCT", "Normal"),
    "pneumonia": ("233604007", "SCT", "Pneumonia"),
}
_CHEST_XRAY = ("399208008", "SCT", "Plain chest X-ray")
_LUNG = ("39607008", "SCT", "Lung")
_FINDING = ("121071", "DCM", "Finding")
_NO_UNIT = ("1", "UCUM", "no units")


def structured_report(screening: Screening, source: Path, *, revision: str = "") -> DicomObject:
    """A Comprehensive SR by TID 1500: the finding, a probability for each class, the opacities.

    For a screening that is not ``screened`` it gives the reason.

    Parameters
    ----------
    screening
        Its result.
    source
        The DICOM file that it was made from.
    revision
        Distinguishes sources that wrongly share one SOP instance UID.

    Returns
    -------
    DicomObject
        Its UIDs are derived from the source's SOP instance, model, version, operating point and
        kind: made again, it is the same object to an archive.

    Raises
    ------
    ResultsError
        The source is not DICOM, or lacks what ties a report to its study.
    """
    from highdicom.sr import ComprehensiveSR

    identity = identity_of(screening, source)
    uids = Uids(identity, screening, "sr" if screening.ok else "refusal", revision)
    try:
        report = ComprehensiveSR(
            evidence=[placeholder()],
            content=_report(screening, uids),
            series_instance_uid=uids.derive("series"),
            series_number=_SERIES,
            sop_instance_uid=uids.derive("instance"),
            instance_number=1,
            manufacturer=MANUFACTURER,
            manufacturer_model_name=long_string(screening.model),
            software_versions=long_string(screening.version),
            is_complete=True,
            series_description=long_string(f"{MANUFACTURER} {screening.model}"),
        )
        return finished(report, identity)
    except (AttributeError, KeyError, LookupError, TypeError, ValueError) as error:
        raise lacking(source, error) from None


def _report(screening: Screening, uids: Uids) -> Any:
    """The content tree of TID 1500."""
    from highdicom.sr import (
        AlgorithmIdentification,
        CodedConcept,
        DeviceObserverIdentifyingAttributes,
        MeasurementReport,
        ObservationContext,
        ObserverContext,
    )
    from pydicom.sr.coding import Code

    point = f"operating point {screening.operating_point}"
    algorithm = AlgorithmIdentification(
        name=screening.model,
        version=screening.version,
        parameters=[point, f"{screening.precision}, {screening.engine}", DISCLAIMER],
    )
    device = DeviceObserverIdentifyingAttributes(
        uid=uid_of(screening.model, screening.version),
        name=MANUFACTURER,
        manufacturer_name=MANUFACTURER,
        model_name=f"{screening.model} {screening.version}",
    )
    groups = [_result(screening, uids, algorithm) if screening.ok else _refusal(screening, uids)]
    groups += _opacities(screening, uids, algorithm)
    return MeasurementReport(
        observation_context=ObservationContext(
            observer_device_context=ObserverContext(CodedConcept("121007", "DCM", "Device"), device)
        ),
        procedure_reported=Code(*_CHEST_XRAY),
        imaging_measurements=groups,
    )


def _result(screening: Screening, uids: Uids, algorithm: Any) -> Any:
    """The finding and its probabilities (TID 1501)."""
    from highdicom.sr import (
        Measurement,
        MeasurementsAndQualitativeEvaluations,
        QualitativeEvaluation,
    )
    from pydicom.sr.coding import Code

    label = str(screening.label)
    evaluations = [QualitativeEvaluation(Code(*_FINDING), _finding(label))]
    if screening.certain is False:
        certainty = _local("certainty", "Certainty of the finding")
        evaluations.append(QualitativeEvaluation(certainty, _local("uncertain", "Uncertain")))
    numbers = {
        f"Probability of {name}": (f"probability-{name}", value)
        for name, value in (screening.probabilities or {}).items()
    }
    if screening.frontal_score is not None:
        numbers["Probability of a frontal chest view"] = ("frontal", screening.frontal_score)
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(uids, "result"),
        algorithm_id=algorithm,
        measurements=[
            Measurement(_local(code, meaning), round(value, 6), Code(*_NO_UNIT))
            for meaning, (code, value) in numbers.items()
        ],
        qualitative_evaluations=evaluations,
        source_images=[_source_of_group()],
    )


def _refusal(screening: Screening, uids: Uids) -> Any:
    """Why the image was not screened (TID 1501)."""
    from highdicom.sr import MeasurementsAndQualitativeEvaluations, QualitativeEvaluation

    reason = screening.reason or screening.status
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(uids, "refusal"),
        qualitative_evaluations=[
            QualitativeEvaluation(
                _local("not-screened", "Not screened, because"),
                _local(reason, reason.replace("-", " ").capitalize()),
            )
        ],
        source_images=[_source_of_group()],
    )


def _opacities(screening: Screening, uids: Uids, algorithm: Any) -> list[Any]:
    """One region of interest for each opacity (TID 1410), its box in the source's pixels."""
    import numpy as np
    from highdicom.sr import (
        FindingSite,
        ImageRegion,
        Measurement,
        PlanarROIMeasurementsAndQualitativeEvaluations,
        SourceImageForRegion,
    )
    from pydicom.sr.coding import Code

    original = placeholder()
    groups = []
    for number, opacity in enumerate(screening.opacities, 1):
        left, top, right, bottom = opacity.box
        outline = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
        region = ImageRegion(
            "POLYLINE",
            np.array(outline, np.float64),
            SourceImageForRegion(original.SOPClassUID, original.SOPInstanceUID),
        )
        groups.append(
            PlanarROIMeasurementsAndQualitativeEvaluations(
                tracking_identifier=_tracking(uids, f"opacity {number}"),
                referenced_region=region,
                finding_type=_local("opacity", "Opacity"),
                finding_sites=[FindingSite(Code(*_LUNG))],
                algorithm_id=algorithm,
                measurements=[
                    Measurement(
                        _local("probability-opacity", "Probability of an opacity"),
                        round(float(opacity.score), 6),
                        Code(*_NO_UNIT),
                    )
                ],
            )
        )
    return groups


def _source_of_group() -> Any:
    from highdicom.sr import SourceImageForMeasurementGroup

    original = placeholder()
    return SourceImageForMeasurementGroup(original.SOPClassUID, original.SOPInstanceUID)


def _tracking(uids: Uids, name: str) -> Any:
    from highdicom.sr import TrackingIdentifier

    return TrackingIdentifier(uid=uids.derive(name), identifier=name)


def _finding(label: str) -> Any:
    from pydicom.sr.coding import Code

    return Code(*_FINDINGS[label]) if label in _FINDINGS else _local(label, label)


def _local(code: str, meaning: str) -> Any:
    from highdicom.sr import CodedConcept

    # A code of more than 16 characters becomes a LongCodeValue.
    return CodedConcept(code, _SCHEME, long_string(meaning))
