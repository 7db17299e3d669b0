"""What a device installs may be shipped inside an Apache-2.0 product."""

import re
from importlib.metadata import PackageNotFoundError, distribution

import pytest

requirements = pytest.importorskip("packaging.requirements")

#: Extras of a device; those of a workstation (train, convert, test, dev) stay there.
DEVICE = ("onnx", "tflite", "dicom", "dicom-out", "fleet", "station", "archive")
#: Permissive, or of files and not of what links to them (MPL-2.0). SPDX, then as older packages
#: say it.
ALLOWED = {
    "0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0", "HPND", "ISC",
    "MIT", "MIT-0", "MIT-CMU", "MPL-2.0", "PSF-2.0", "Zlib",
    "3-Clause BSD License", "Apache 2.0", "Apache License 2.0", "Apache License, Version 2.0",
    "Apache Software License", "BSD", "BSD License", "BSD-like", "MIT License",
    "Mozilla Public License 2.0 (MPL 2.0)", "Python Software Foundation License",
}  # fmt: skip


def said(metadata):
    """The licences that a package names: its expression, else its classifiers, else its field."""
    expression = metadata.get("License-Expression")
    if expression is None:
        classifiers = metadata.get_all("Classifier") or []
        named = [one for one in classifiers if one.startswith("License :: ")]
        named = [one for one in named if not one.endswith(":: OSI Approved")]
        if named:
            return {one.split(" :: ")[-1] for one in named}
        expression = (metadata.get("License") or "none named").splitlines()[0]
    if expression in ALLOWED:
        return {expression}
    return set(re.split(r"\s+(?:AND|OR|WITH)\s+", expression.replace("(", "").replace(")", "")))


def installed(name, extras=()):
    """The package and all that it requires here, by name."""
    found, waiting = {}, [(name, frozenset(extras))]
    seen = set()
    while waiting:
        name, extras = waiting.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        try:
            there = distribution(name)
        except PackageNotFoundError:  # an extra that is not installed here
            continue
        found[name.lower()] = there.metadata
        for line in there.requires or ():
            one = requirements.Requirement(line)
            wanted = one.marker is None or any(
                one.marker.evaluate({"extra": extra}) for extra in (extras or {""})
            )
            if wanted:
                waiting.append((one.name, frozenset(one.extras)))
    return found


def test_a_device_installs_permissive_licences_only():
    packages = installed("xrayedge", DEVICE)
    assert {"numpy", "opencv-python-headless", "pydicom"} <= set(packages)
    refused = {
        name: sorted(said(metadata) - ALLOWED)
        for name, metadata in packages.items()
        if said(metadata) - ALLOWED
    }
    assert not refused


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"License-Expression": "MIT AND (Zlib OR GPL-3.0-only)"}, {"MIT", "Zlib", "GPL-3.0-only"}),
        ({"License": "GPL V3.0"}, {"GPL V3.0"}),
        ({}, {"none named"}),
    ],
)
def test_what_a_package_says_is_understood(metadata, expected):
    from email.message import Message

    message = Message()
    for key, value in metadata.items():
        message[key] = value
    assert said(message) == expected
    assert not expected <= ALLOWED
