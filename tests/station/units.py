"""A listener on loopback, and units that send to it by pynetdicom."""

import time
from contextlib import contextmanager

import numpy as np
from conftest import dicom_dataset
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian, generate_uid
from pynetdicom import AE

from xrayedge.station.config import ListenConfig
from xrayedge.station.inputs.dicom import DicomListener

LISTEN = ListenConfig(port=0)  # any that is free


@contextmanager
def listening(state, config=LISTEN, tls=None, destinations=()):
    listener = DicomListener(config, tls, destinations, state, "balanced")
    listener.start()
    try:
        yield listener.port
    finally:
        listener.stop()


@contextmanager
def association(port, ae="UNIT1", called="XRAYEDGE", tls=None):
    unit = AE(ae_title=ae)
    unit.add_requested_context(ComputedRadiographyImageStorage, [ExplicitVRLittleEndian])
    unit.acse_timeout = unit.dimse_timeout = 60
    made = unit.associate("127.0.0.1", port, ae_title=called, tls_args=tls and (tls, "localhost"))
    try:
        yield made
    finally:
        if made.is_established:
            made.release()


def image(**attributes):
    pixels = np.arange(64, dtype=np.uint8).reshape(8, 8)
    dataset = dicom_dataset(pixels, SOPInstanceUID=generate_uid())
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    for name, value in attributes.items():
        setattr(dataset, name, value)
    return dataset


def store(port, *datasets, **options):
    """The status of each, or none where the association is refused."""
    with association(port, **options) as made:
        if not made.is_established:
            return []
        return [made.send_c_store(one).Status for one in datasets]


def wait_until(done, seconds=60.0):
    """Until `done()` is true."""
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.01)
