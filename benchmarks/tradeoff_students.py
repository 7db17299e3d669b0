"""The networks that `tradeoff.py` compares: pruned ones and peers, trained and converted."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
from peers import keras_peers
from quantise import int8_onnx, int8_tflite
from rich.console import Console

from xrayedge.converters import calibration_set, equalisation, ranges, rounding
from xrayedge.converters import onnx as to_onnx
from xrayedge.converters import tflite as to_tflite
from xrayedge.data import Dataset, model_inputs
from xrayedge.engines import EngineName
from xrayedge.errors import RunError
from xrayedge.files import write_atomically
from xrayedge.preprocessing import Preprocessing
from xrayedge.training import pruning
from xrayedge.training.calibration import fit_temperature
from xrayedge.training.distillation import Teachers, Views, with_maps
from xrayedge.training.losses import Distillation, LabelledAccuracy, MapLoss, label_columns
from xrayedge.training.network import ARCHITECTURES, activation_map_model
from xrayedge.training.recipe import ROBUST
from xrayedge.training.run import MODEL, RunRecord
from xrayedge.training.train import build_network, save, schedule

HALF_SIDE_FROM = 4  # from here on the input's side is halved, which alone leaves a quarter
#: How many times fewer multiply-accumulates than the teacher the other networks have.
PEERS = {"MobileNetV2": 50, "DenseNet121": 5}
PEER_RATE = 1e-3  # they begin with random weights
#: Keras' 0.999 takes thousands of steps to forget the initial statistics.
PEER_MOMENTUM = 0.9
UNTRAINED_IMAGES = 8  # enough for the ranges of networks whose scores are not used
SUFFIXES: dict[EngineName, str] = {"litert": "int8.tflite", "onnx": "int8.onnx"}
console = Console(stderr=True, highlight=False)


@dataclass(frozen=True)
class Student:
    """One line of the comparison.

    Parameters
    ----------
    name
        For a person.
    folder
        Holds its model and files.
    passes
        How often it has seen each training image; 0 where its weights are random, and `None` for
        the teacher.
    temperature
        Divides its logits.
    preprocessing
        From an image to its input.
    """

    name: str
    folder: Path
    passes: int | None
    temperature: float
    preprocessing: Preprocessing


def pruned(ratio: int, teacher: Path, dataset: Dataset, arguments: argparse.Namespace) -> Student:
    """The teacher pruned to one ``ratio``-th, trained or as a network of the planned widths."""
    name, folder = f"vgg16 / {ratio}", arguments.work / f"vgg16-{ratio}x"
    half_side = ratio >= HALF_SIDE_FROM
    fraction = (4.0 if half_side else 1.0) / ratio
    if not arguments.time_only:
        views, epochs = spread(arguments.passes * ratio / 2, arguments.view_count)
        changes: dict[str, Any] = {
            "precision": arguments.precision,
            "phases": (replace(pruning.FINAL, epochs=epochs),),
        }
        if not RunRecord.is_finished(folder):
            console.print(f"pruning to one {ratio}th")
            pruning.prune(
                teacher,
                dataset,
                fraction,
                folder,
                half_side=half_side,
                views=arguments.views or arguments.work / "views",
                view_count=views,
                changes=changes,
                progress=lambda number, total, epoch: console.print(
                    f"  epoch {number}/{total}  loss {epoch.loss:.4f}  {epoch.seconds:.0f} s"
                ),
            )
    if RunRecord.is_finished(folder):
        return finished(name, folder)
    planned = folder.with_name(f"{folder.name}-untrained")
    record = RunRecord.read(teacher)
    recipe = pruning.of_half_the_side(record.recipe) if half_side else record.recipe
    if not (planned / MODEL).exists():
        whole = keras.saving.load_model(teacher / MODEL, compile=False)
        model = pruning.at_its_size(whole, recipe, len(record.classes))
        inputs = model_inputs(dataset.split("train")[::24], recipe.preprocessing)
        widths = pruning.plan(
            pruning.importance(model, inputs),
            recipe.widths or ARCHITECTURES[recipe.architecture].blocks,
            recipe.preprocessing.size,
            fraction,
        )
        narrower = build_network(replace(recipe, widths=widths), len(record.classes))
        planned.mkdir(parents=True, exist_ok=True)
        save(narrower, planned / MODEL)
    return Student(name, planned, 0, 1.0, recipe.preprocessing)


def spread(passes: float, most_views: int) -> tuple[int, int]:
    """The numbers of views per image and of epochs that come closest to this many passes."""
    views = min(max(1, round(passes)), most_views)
    return views, max(1, round(passes / views))


def finished(name: str, folder: Path) -> Student:
    """A finished run of pruning, or `RunError`."""
    record = RunRecord.read(folder)
    if not record.finished or record.views is None:
        raise RunError(f"{folder}: not a finished run of `xrayedge prune`")
    passes = record.views * len(record.history)
    return Student(name, folder, passes, record.temperature, record.recipe.preprocessing)


def peer(name: str, teacher: Path, dataset: Dataset, arguments: argparse.Namespace) -> Student:
    """A network of another kind, trained like the pruned ones."""
    folder = arguments.work / name.lower()
    if name in arguments.peer_weights:
        folder = folder.with_name(f"{folder.name}-from-{Path(arguments.peer_weights[name]).name}")
    done = folder / "temperature.txt"
    preprocessing = RunRecord.read(teacher).recipe.preprocessing
    if not done.exists() and not arguments.time_only and name in arguments.peers:
        console.print(f"training {name}")
        _teach(name, folder, teacher, dataset, arguments)
    if done.exists():
        temperature, passes = done.read_text(encoding="utf-8").split()
        return Student(name, folder, int(passes), float(temperature), preprocessing)
    untrained = folder.with_name(f"{folder.name}-untrained")
    if not (untrained / MODEL).exists():
        untrained.mkdir(parents=True, exist_ok=True)
        save(keras_peers()[name](), untrained / MODEL)
    return Student(name, untrained, 0, 1.0, preprocessing)


def _teach(
    name: str, folder: Path, teacher: Path, dataset: Dataset, arguments: argparse.Namespace
) -> None:
    record = RunRecord.read(teacher)
    recipe = replace(record.recipe, augmentation=ROBUST, batch_size=32)
    folder_of_views = arguments.views or arguments.work / "views"
    classes = len(dataset.classes)
    count, epochs = spread(arguments.passes * PEERS[name] / 2, arguments.view_count)
    folder.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(record.recipe.seed)
    model = keras_peers(arguments.peer_weights.get(name))[name]()
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = PEER_MOMENTUM
    student = activation_map_model(model)
    _, height, width, _ = student.output.shape
    views = Views(folder_of_views, Teachers([teacher]), dataset, recipe, (height, width), count)
    # A peer learns the classes alone, whatever else its teacher knows.
    maps = views.maps.reshape(len(views.maps), height * width, -1)[..., :classes]
    targets = with_maps(views.targets[:, : label_columns(classes)], maps)
    phase = replace(pruning.FINAL, epochs=epochs, learning_rate=PEER_RATE)
    rate = schedule(phase, -(-len(targets) // recipe.batch_size))
    taught = MapLoss(classes, None, opacity=0.0)
    student.compile(
        optimizer=keras.optimizers.AdamW(rate, weight_decay=1e-4),
        loss=Distillation(taught, pruning.LABEL_WEIGHT, float(np.var(maps))),
        metrics=[LabelledAccuracy(classes)],
    )
    student.fit(
        views.inputs,
        targets,
        batch_size=recipe.batch_size,
        epochs=epochs,
        callbacks=[keras.callbacks.BackupAndRestore(folder / "backup")],
        verbose=2,
    )
    model.save(folder / MODEL)
    held_out = dataset.split("val")
    inputs = model_inputs(held_out, record.recipe.preprocessing)
    labels = np.array([dataset.classes.index(sample.label) for sample in held_out])
    logits = np.asarray(model.predict(inputs, batch_size=16, verbose=0))
    content = f"{fit_temperature(logits, labels)} {count * epochs}\n"
    write_atomically(folder / "temperature.txt", content.encode())


def convert(student: Student, dataset: Dataset, out: Path) -> None:
    """Write the student's int8 files, unless they are there: ours by our recipes."""
    targets = [out / f"{student.folder.name}-{suffix}" for suffix in SUFFIXES.values()]
    if all(target.exists() for target in targets):
        return
    console.print(f"converting {student.name}")
    chosen = calibration_set.choose(dataset.split("train"), student.preprocessing)
    if student.passes == 0:
        chosen = calibration_set.CalibrationSet(chosen.inputs[:UNTRAINED_IMAGES])
    model = keras.saving.load_model(student.folder / MODEL, compile=False)
    if student.name in PEERS:
        contents = [int8_tflite(model, chosen), int8_onnx(model, chosen)]
    else:
        model = equalisation.equalise(model, chosen)
        model = rounding.round_kernels(model, chosen)
        found = ranges.observe(model, chosen)["percentile"]
        contents = [to_tflite.static_int8(model, found), to_onnx.static_int8(model, found)]
    for target, content in zip(targets, contents, strict=True):
        write_atomically(target, content)
