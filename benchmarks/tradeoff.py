"""What fewer operations cost: narrower VGG16s compared with MobileNetV2 and DenseNet121.

    python benchmarks/tradeoff.py RUN --data MANIFEST.csv --where split=test --by set \
        --work WORK --docs docs

Writes docs/tradeoff.md and docs/tradeoff.png. RUN is the teacher's. Each student learns from its
activation maps of the same varied training images, is converted to int8, judged on the images
that --where chooses, and timed together with all others, alternately, in one process with one
thread. With --by, images of each value of a column are evaluated separately. Everything is kept in
WORK, so that an interrupted call can be resumed. --time-only trains nothing; networks that WORK
does not hold trained are then timed with random weights. --also adds finished runs of `xrayedge
prune`, under the names of their folders.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from commandline import add_where, this_command, this_machine
from tradeoff_document import ACCURACY, ALSO, TEXT, accuracy_table, beginnings, costs_table, draw
from tradeoff_measuring import ROUNDS, measure, parts_by
from tradeoff_students import HALF_SIDE_FROM, PEERS, Student, convert, finished, peer, pruned

from xrayedge.data import load_dataset
from xrayedge.evaluation.report import png
from xrayedge.files import write_atomically
from xrayedge.training.distillation import VIEWS
from xrayedge.training.run import RunRecord

RATIOS = (2, 4, 8, 12, 16, 24, 50)
#: Over the training images, of `vgg16 / 2`. Operations times passes is the same for all.
PASSES = 1.0


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("teacher", type=Path, metavar="RUN")
    parser.add_argument("--data", type=Path, required=True, help="what trained RUN")
    add_where(parser)
    parser.add_argument("--by", metavar="COLUMN", help="evaluate each value of a column separately")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--docs", type=Path, required=True)
    parser.add_argument("--ratios", type=int, nargs="*", default=list(RATIOS))
    parser.add_argument(
        "--peers", nargs="*", default=list(PEERS), choices=PEERS, help="to train as well"
    )
    parser.add_argument(
        "--peer-weights",
        action="append",
        nargs=2,
        default=[],
        metavar=("PEER", "WEIGHTS"),
        help="what a peer begins with, random otherwise: imagenet, or a file without the head",
    )
    parser.add_argument("--views", type=Path, help="as of `xrayedge prune`; default: in WORK")
    parser.add_argument("--view-count", type=int, default=VIEWS)
    parser.add_argument(
        "--passes",
        type=float,
        default=PASSES,
        help="over the training images, of `vgg16 / 2`; default: %(default)s",
    )
    parser.add_argument("--also", type=Path, nargs="*", default=[], metavar="RUN")
    parser.add_argument(
        "--precision",
        default="float32",
        choices=["float32", "mixed_bfloat16"],
        help="in which pruned networks learn; MobileNetV2 gains nothing by bfloat16",
    )
    parser.add_argument("--time-only", action="store_true")
    arguments = parser.parse_args()
    arguments.peer_weights = dict(arguments.peer_weights)
    dataset = load_dataset(arguments.data)
    samples = load_dataset(arguments.data, arguments.where, complete=False).samples
    parts = parts_by(arguments.by, samples)
    record = RunRecord.read(arguments.teacher)
    preprocessing = record.recipe.preprocessing
    students = [Student("vgg16", arguments.teacher, None, record.temperature, preprocessing)]
    for ratio in arguments.ratios:
        students.append(pruned(ratio, arguments.teacher, dataset, arguments))
    students += [finished(run.name, run) for run in arguments.also]
    students += [peer(name, arguments.teacher, dataset, arguments) for name in PEERS]
    files = arguments.work / "files"
    files.mkdir(parents=True, exist_ok=True)
    for student in students:
        convert(student, dataset, files)
    lines = measure(students, samples, dataset, parts, files)
    text = TEXT.format(
        command=this_command(),
        rounds=ROUNDS,
        half_side=HALF_SIDE_FROM,
        views=arguments.view_count,
        passes=arguments.passes,
        also=ALSO.format(names=" and ".join(f"`{run.name}`" for run in arguments.also))
        if arguments.also
        else "",
        peers=beginnings(arguments.peer_weights),
        machine=this_machine(),
        costs=costs_table(lines),
    )
    for part, rows in parts.items():
        text += ACCURACY.format(
            on=f" on {part}" if part else "",
            images=len(rows),
            patients=len({samples[row].group for row in rows}),
            table=accuracy_table(lines, part),
        )
    write_atomically(arguments.docs / "tradeoff.png", png(draw(lines, list(parts))))
    write_atomically(arguments.docs / "tradeoff.md", text.encode())
    print(text, end="")


if __name__ == "__main__":
    main()
