"""Images as the monitor counts them, drawn at random: a hundred need no screening."""

from datetime import date

import numpy as np

from xrayedge.station import monitor
from xrayedge.station.config import ScreenConfig
from xrayedge.station.measures import LATENCY, OUTCOMES, measures
from xrayedge.station.records import Measured
from xrayedge.station.store.measures import count_image

REFERENCE = monitor.reference_of(ScreenConfig())


def put(store, rows, unit="UNIT1", model=REFERENCE.model):
    """Count rows, bins of each measure, as finished jobs do, but all in one transaction."""
    with store._database.transaction() as sql:
        for row in rows:
            count_image(sql, date.today().isoformat(), Measured(unit, model, row, 8.0))


def drawn(images, seed, *, brightness=128.0, refused=0.0):
    """Bins of so many images whose values are drawn at random, as around these means."""
    random = np.random.default_rng(seed)
    known = {one.name: one for one in measures(REFERENCE.classes)}
    rows = []
    for _ in range(images):
        if random.random() < refused:
            rows.append({"outcome": OUTCOMES.index("not-frontal"), LATENCY: 12})
            continue
        covid, healthy, pneumonia = random.dirichlet([1.0, 2.0, 1.0])
        values = {
            "probability-covid": covid,
            "probability-healthy": healthy,
            "probability-pneumonia": pneumonia,
            "frontal-score": 1.0 - 0.1 * random.random(),
            "grey-mean": random.normal(brightness, 20.0),
            "grey-contrast": random.normal(55.0, 8.0),
        }
        bins = {name: known[name].bin(value) for name, value in values.items()}
        rows.append({"outcome": 0, LATENCY: 12, **bins})
    return rows
