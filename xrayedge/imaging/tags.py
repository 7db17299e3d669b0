"""What a DICOM file says about how it was taken, and where the pixels say otherwise."""

from __future__ import annotations

from dataclasses import dataclass

#: Modality, body part and view position that a frontal chest radiograph may carry (PS3.3
#: C.7.3.1.1.1, PS3.16 annex L, PS3.3 C.8.11.1); SC and OT say nothing of how it was taken.
_MODALITIES = {"CR", "DX", "RG", "RF", "SC", "OT"}
_BODY_PARTS = ("CHEST", "THORAX", "LUNG", "RIB")
_VIEWS = ("AP", "PA")


@dataclass(frozen=True)
class AcquisitionTags:
    """What a DICOM file says about how it was taken. Hearsay: the pixels decide.

    Parameters
    ----------
    modality, body_part, view_position
        ``Modality``, ``BodyPartExamined`` and ``ViewPosition`` where the file gives a code
        (capitals, digits, space and underscore, up to 16; PS3.5, 6.2), else ``None``.
    """

    modality: str | None
    body_part: str | None
    view_position: str | None


def contradictions(tags: AcquisitionTags | None, *, passed: bool) -> tuple[str, ...]:
    """Where a DICOM file's tags say other than the check; the check stands.

    Returns
    -------
    Of an image that passed, ``modality-not-radiography``, ``body-part-not-chest`` and
    ``view-not-frontal``; of one that did not, ``tags-say-frontal-chest``. Missing tags say nothing.
    """
    if tags is None:
        return ()
    chest = tags.body_part is not None and tags.body_part.startswith(_BODY_PARTS)
    frontal = tags.view_position is not None and tags.view_position.startswith(_VIEWS)
    if not passed:
        return ("tags-say-frontal-chest",) if chest and frontal else ()
    found = {
        "modality-not-radiography": tags.modality is not None and tags.modality not in _MODALITIES,
        "body-part-not-chest": tags.body_part is not None and not chest,
        "view-not-frontal": tags.view_position is not None and not frontal,
    }
    return tuple(name for name, holds in found.items() if holds)
