"""Read an archive's results with pyarrow: counts, then the images that most need a second look.

    python examples/archive_pyarrow.py FOLDER

FOLDER is what `xrayedge archive INPUT --out FOLDER` made. Parts are read one at a time, however
many there are.
"""

import sys
from collections import Counter
from heapq import nlargest

import pyarrow.compute as pc
import pyarrow.dataset as ds

SHOWN = 10

parts = ds.dataset(f"{sys.argv[1]}/parts", format="parquet")

counts = Counter()
for batch in parts.to_batches(columns=["status", "reason", "label"]):
    for row in batch.to_pylist():
        counts[row["status"], row["label"] or row["reason"]] += 1
for (status, what), count in counts.most_common():
    print(f"{count:>12,}  {status:<9}  {what}")

# A class's probability is probabilities.covid; a column within another is named by its path.
pneumonia = {"source": ds.field("source"), "score": ds.field("probabilities", "pneumonia")}
uncertain = (pc.field("status") == "screened") & ~pc.field("certain")
most = []
for batch in parts.to_batches(columns=pneumonia, filter=uncertain):
    most = nlargest(SHOWN, most + batch.to_pylist(), key=lambda row: row["score"])
print(f"\nuncertain, by the probability of pneumonia (the first {SHOWN}):")
for row in most:
    print(f"{row['score']:.3f}  {row['source']}")
