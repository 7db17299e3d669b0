"""Refuse images that must not be screened according to their tags: age and device."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from .config import ScreenConfig

TOO_YOUNG = "too-young"
DEVICE_NOT_ALLOWED = "device-not-allowed"
#: Warning on a result: a minimum age is set, but the file does not give the age.
AGE_UNKNOWN = "age-unknown"

_AGE = re.compile(r"(\d{3})([DWMY])")  # value representation AS (PS3.5, 6.2)
_DATE = re.compile(r"(\d{4})\.?(\d\d)\.?(\d\d)")  # DA, and its retired form with dots
_PER_YEAR = {"D": 365.25, "W": 365.25 / 7, "M": 12.0, "Y": 1.0}
_TAGS = ("PatientAge", "PatientBirthDate", "StudyDate", "Manufacturer", "StationName")


@dataclass(frozen=True)
class Verdict:
    """Whether an image may be screened; if not, a reason and a sentence."""

    reason: str | None = None
    detail: str | None = None
    warning: str | None = None
    station_name: str = ""


def check(path: Path, config: ScreenConfig) -> Verdict:
    """Judge an image by its tags. A file that is not DICOM has none, and may be screened."""
    tags = _read(path)
    station = tags.get("StationName", "")
    for kind, name, allowed in (
        ("manufacturer", tags.get("Manufacturer", ""), config.manufacturers),
        ("station name", station, config.station_names),
    ):
        if allowed and name.casefold() not in map(str.casefold, allowed):
            detail = f"its {kind} is not among those that are allowed"
            return Verdict(DEVICE_NOT_ALLOWED, detail, station_name=station)
    if not config.min_age:
        return Verdict(station_name=station)
    years = age(tags)
    if years is None:
        return Verdict(warning=AGE_UNKNOWN, station_name=station)
    if years < config.min_age:
        detail = f"the patient is younger than {config.min_age:g} years"
        return Verdict(TOO_YOUNG, detail, station_name=station)
    return Verdict(station_name=station)


def age(tags: dict[str, str]) -> float | None:
    """The patient's age in years, from its tag or from birth to study; `None` if unknown.

    If both are given, the lower one counts.
    """
    ages = []
    stated = _AGE.fullmatch(tags.get("PatientAge", ""))
    if stated:
        ages.append(int(stated[1]) / _PER_YEAR[stated[2]])
    born, studied = (_day(tags.get(name, "")) for name in ("PatientBirthDate", "StudyDate"))
    if born and studied and born <= studied:
        birthdays = (
            studied.year - born.year - ((studied.month, studied.day) < (born.month, born.day))
        )
        ages.append(birthdays + (0.0 if birthdays else (studied - born).days / 366.0))
    return min(ages, default=None)


def _day(value: str) -> date | None:
    parts = _DATE.fullmatch(value)
    try:
        return date(*map(int, parts.groups())) if parts else None
    except ValueError:
        return None


def _read(path: Path) -> dict[str, str]:
    from pydicom import dcmread

    try:
        header: Any = dcmread(path, stop_before_pixels=True, specific_tags=list(_TAGS))
        return {name: str(header.get(name) or "").strip() for name in _TAGS}
    except Exception:  # pydicom raises many kinds of errors on other files
        return {}
