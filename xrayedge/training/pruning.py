"""Structured pruning: whole channels are removed, and the rest learns from the original network.

The result is a plain chain of 3x3 convolutions like the original, only narrower, so every engine
runs it at full speed. Channels are judged by how much of the next layer's input they carry (as in
ThiNet, Luo et al. 2017), what is left of each layer is fitted by least squares to what the whole
one gave (He et al. 2017), and the network then learns from the whole one's activation maps on
images that vary as in training (Hinton et al. 2015, Zagoruyko & Komodakis 2017).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from ..data import Dataset, model_inputs
from ..errors import RunError
from ..files import write_atomically
from ..preprocessing import Preprocessing
from .losses import Distillation, LabelledAccuracy
from .network import ARCHITECTURES, MAP_LAYER, activation_map_model, patches
from .recipe import ROBUST, Phase, Recipe
from .run import MODEL, RECORD, RunRecord, own_run
from .sampling import TrainingBatches, source_targets
from .train import Progress, Recorder, build_network, finish, resume, schedule, versions

Widths = tuple[tuple[int, ...], ...]

#: Channels go in groups: engines compute int8 convolutions in blocks of so many.
GROUP = 8
_NARROWEST = 16
_IMAGES = 96  # to judge and fit by
_RIDGE = 1e-3
VIEWS = 10  # of each training image, drawn and shown to the teacher once

RECOVERY = Phase(epochs=1, learning_rate=2e-4, first_block=1)
FINAL = Phase(epochs=8, learning_rate=3e-4, first_block=1)
#: Layers of more channels take as much lower a rate: Adam moves every weight alike, and what a
#: layer gives moves by the number that it sums. At the full rate 328 channels died in one epoch.
FULL_RATE_WIDTH = 176


def prune(
    teacher: Path,
    dataset: Dataset,
    fraction: float,
    out: Path,
    *,
    steps: int = 1,
    half_side: bool = False,
    views: Path | None = None,
    view_count: int = VIEWS,
    changes: dict[str, Any] | None = None,
    progress: Progress | None = None,
    on_view: Callable[[int, int], None] | None = None,
) -> RunRecord:
    """Make a narrower network of a trained one, in steps with recovery in between.

    Parameters
    ----------
    teacher
        A finished run of a classifier.
    dataset
        What the teacher was trained on: the split ``train`` to judge channels and to learn from,
        ``val`` for the temperature.
    fraction
        Of the teacher's multiply-accumulates, and of its weights, to keep at most.
    half_side
        Whether the input's side is halved as well, which alone leaves a quarter of the operations.
        The last pooling then goes, and the map keeps its places. ``fraction`` counts from there.
    out
        The run folder. An interrupted pruning goes on there.
    steps
        In how many steps, with a short recovery between them.
    views
        Folder for the varied images and the teacher's maps of them; several prunings may share
        it. Without one they are kept in ``out`` and removed at the end.
    view_count
        Views of each training image.
    changes
        To the recipe: ``phases``, one, of the last recovery, ``seed``, ``precision``. Networks
        of over `FULL_RATE_WIDTH` channels learn at a lower rate than the phase's.
    progress
        Called after each epoch, as in `train.train`.
    on_view
        Called after the teacher has seen one view of every image, with how many of how many.

    Raises
    ------
    RunError
        The teacher is not a finished run on these data, the fraction can't be reached, a folder
        holds another run, or views of one, or the architecture has none for half the side.
    """
    parent = RunRecord.read(teacher)
    if not parent.finished or not parent.goes_on_with(dataset):
        raise RunError(f"{teacher}: not a finished run on these data")
    if not 0.0 < fraction <= 1.0:
        raise RunError(f"the fraction to keep must be above 0 and at most 1, not {fraction}")
    if not any(sample.label in dataset.classes for sample in dataset.split("val")):
        raise RunError("the temperature is fitted on the split val, which holds no images")
    settings: dict[str, Any] = {
        "name": "pruned",
        "phases": (FINAL,),
        "augmentation": ROBUST,
        "batch_size": 32,
        "weight_decay": 1e-4,
        "label_smoothing": 0.0,
        "dropout": 0.0,
        "within_source": 0.0,
        "keep": "last",
        # Not the teacher's: without the instructions for it, bfloat16 takes ten times as long.
        "precision": "float32",
    }
    recipe = replace(parent.recipe, **{**settings, **(changes or {})})
    if half_side:
        recipe = of_half_the_side(recipe)
    with own_run(out):
        return _prune(
            teacher,
            parent,
            dataset,
            recipe,
            fraction,
            out,
            steps,
            views,
            view_count,
            progress,
            on_view,
        )


def _prune(
    teacher: Path,
    parent: RunRecord,
    dataset: Dataset,
    recipe: Recipe,
    fraction: float,
    out: Path,
    steps: int,
    views: Path | None,
    view_count: int,
    progress: Progress | None,
    on_view: Callable[[int, int], None] | None,
) -> RunRecord:
    if (out / RECORD).exists():
        found = RunRecord.read(out)
        made_of = (replace(found.recipe, widths=None), found.start, found.fraction, found.views)
        if made_of != (replace(recipe, widths=None), parent.to_dict(), fraction, view_count):
            raise RunError(f"{out}: holds another run; give another folder")
        if found.finished:
            return found
    shown = Views(views or out / "views", teacher, dataset, recipe, view_count, on_view)
    whole = keras.saving.load_model(teacher / MODEL, compile=False)
    model = at_its_size(whole, recipe, len(dataset.classes))
    widths = parent.recipe.widths or ARCHITECTURES[parent.recipe.architecture].blocks
    validation = _validation(whole, parent.recipe.preprocessing, dataset, recipe)
    for step in range(1, steps + 1):
        last = step == steps
        folder = out if last else out / f"step-{step}"
        goal = plan(
            importance(model, shown.sample),
            widths,
            recipe.preprocessing.size,
            fraction ** (1 / steps),
        )
        step_recipe = replace(recipe, widths=goal, phases=recipe.phases if last else (RECOVERY,))
        record = RunRecord(
            step_recipe,
            dataset.classes,
            parent.data_of(dataset),
            versions(),
            parent.to_dict(),
            fraction=fraction,
            views=view_count,
        )
        _recover(model, record, folder, shown, validation, progress)
        model = keras.saving.load_model(folder / MODEL, compile=False)
        widths = goal
    if views is None:
        shown.remove()
    return RunRecord.read(out)


@dataclass(frozen=True)
class _Validation:
    """The split ``val``: inputs, the teacher's maps of them, and labels as `train` has them."""

    inputs: NDArray[np.uint8]
    maps: NDArray[np.float32]
    labels: NDArray[np.float32]


def of_half_the_side(recipe: Recipe) -> Recipe:
    """The recipe for the architecture's like for inputs of half the side."""
    architecture = ARCHITECTURES[recipe.architecture].half_side
    if architecture is None:
        raise RunError(f"there is no {recipe.architecture} for inputs of half the side")
    smaller = replace(recipe.preprocessing, size=recipe.preprocessing.size // 2)
    return replace(recipe, architecture=architecture, preprocessing=smaller)


def at_its_size(whole: keras.Model, recipe: Recipe, classes: int) -> keras.Model:
    """A network of the same weights for inputs of the recipe's size."""
    model = build_network(recipe, classes)
    model.set_weights(whole.get_weights())
    return model


def _validation(
    whole: keras.Model, seen_by_whole: Preprocessing, dataset: Dataset, recipe: Recipe
) -> _Validation:
    samples = [sample for sample in dataset.split("val") if sample.label in dataset.classes]
    labels = source_targets(samples, dataset.classes)
    maps = map_targets(whole, model_inputs(samples, seen_by_whole), labels[:, 0])
    return _Validation(model_inputs(samples, recipe.preprocessing), maps, labels)


def layer_costs(
    widths: Widths, size: int, classes: int, pool_last: bool = True
) -> tuple[list[int], list[int]]:
    """Multiply-accumulates and weights of each convolution and of the head."""
    operations, weights = [], []
    channels, side = 1, size
    for block in widths:
        for width in block:
            weights.append(9 * channels * width)
            operations.append(side * side * weights[-1])
            channels = width
        side //= 2
    if not pool_last:
        side *= 2
    weights.append(channels * classes)
    operations.append(side * side * weights[-1])
    return operations, weights


def importance(model: keras.Model, inputs: NDArray[np.uint8]) -> list[NDArray[np.float64]]:
    """Share of each channel of each convolution in what the next layer is given.

    The mean square of the channel times the square of the weights that read it: ``float64 [width]``
    for each convolution, with the sum 1.
    """
    names = _convolutions(model)
    squares = [
        keras.ops.mean(keras.ops.square(_input_of(model, reader)), axis=(1, 2))
        for reader in (*names[1:], MAP_LAYER)
    ]
    found = keras.Model(model.inputs[0], squares).predict(inputs, batch_size=8, verbose=0)
    shares = []
    for energy, reader in zip(found, (*names[1:], MAP_LAYER), strict=True):
        kernel = model.get_layer(reader).get_weights()[0]
        carried = np.asarray(energy, np.float64).mean(axis=0) * (kernel**2).sum(axis=(0, 1, 3))
        shares.append(carried / carried.sum())
    return shares


def plan(
    shares: Sequence[NDArray[np.float64]], widths: Widths, size: int, fraction: float
) -> Widths:
    """The widths that lose least for the operations saved.

    Takes groups of channels one after another, each time from the layer where the least share is
    lost for the operations and weights saved, until both are down to the fraction.

    Raises
    ------
    RunError
        Every layer is at its narrowest, and it is still too much.
    """
    classes = 1  # the head weighs next to nothing
    sorted_shares = [np.sort(share) for share in shares]
    full = [sum(cost) for cost in layer_costs(widths, size, classes)]
    flat = [width for block in widths for width in block]
    current = list(flat)
    while True:
        now = [sum(cost) for cost in layer_costs(_blocks(current, widths), size, classes)]
        if all(one <= fraction * all_of_it for one, all_of_it in zip(now, full, strict=True)):
            return _blocks(current, widths)
        best, best_loss = None, np.inf
        for layer, width in enumerate(current):
            if width - GROUP < _NARROWEST:
                continue
            gone = flat[layer] - width
            lost = sorted_shares[layer][gone : gone + GROUP].sum()
            left = sorted_shares[layer][gone + GROUP :].sum()
            narrower = [*current[:layer], width - GROUP, *current[layer + 1 :]]
            after = [sum(cost) for cost in layer_costs(_blocks(narrower, widths), size, classes)]
            saved = sum(
                max(0.0, one - less) / all_of_it
                for one, less, all_of_it in zip(now, after, full, strict=True)
                if one > fraction * all_of_it
            )
            if saved > 0.0 and lost / left / saved < best_loss:
                best, best_loss = layer, lost / left / saved
        if best is None:
            raise RunError(f"no network of this kind has {fraction:.4f} of the operations")
        current[best] -= GROUP


def _blocks(flat: Sequence[int], like: Widths) -> Widths:
    remaining = iter(flat)
    return tuple(tuple(next(remaining) for _ in block) for block in like)


def narrow(
    model: keras.Model,
    recipe: Recipe,
    classes: int,
    inputs: NDArray[np.uint8],
) -> keras.Model:
    """A network of the recipe's widths that computes what ``model`` does as nearly as it can.

    Layer after layer keeps its most important channels, and its weights are fitted by least
    squares: from what the narrower layers below now give to what the whole layer gave.
    """
    smaller = build_network(recipe, classes)
    assert recipe.widths is not None
    flat = [width for block in recipe.widths for width in block]
    shares = importance(model, inputs)
    kept = [np.sort(np.argsort(share)[-width:]) for share, width in zip(shares, flat, strict=True)]
    names = _convolutions(model)
    first_kernel, first_bias = model.get_layer(names[0]).get_weights()
    smaller.get_layer(names[0]).set_weights([first_kernel[..., kept[0]], first_bias[kept[0]]])
    outputs = [*kept[1:], np.arange(model.get_layer(MAP_LAYER).filters)]
    for name, channels in zip((*names[1:], MAP_LAYER), outputs, strict=True):
        kernel, bias = model.get_layer(name).get_weights()
        kernel, bias = kernel[..., channels], bias[channels]
        wanted = patches(model, name, inputs) @ kernel.reshape(-1, len(channels)) + bias
        fitted = _least_squares(patches(smaller, name, inputs), wanted)
        layer = smaller.get_layer(name)
        shape = layer.get_weights()[0].shape
        layer.set_weights([fitted[:-1].reshape(shape), fitted[-1]])
    return smaller


def at_its_width(recipe: Recipe) -> Phase:
    """The phase of the recipe at the rate that a network of its widths bears."""
    assert recipe.widths is not None
    (phase,) = recipe.phases
    widest = max(max(block) for block in recipe.widths)
    share = min(1.0, FULL_RATE_WIDTH / widest)
    return replace(phase, learning_rate=phase.learning_rate * share)


class Views:
    """Varied training images and the teacher's activation maps of them, computed once.

    Parameters
    ----------
    folder
        Holds them, a file for each view of every image; what another call has computed is used
        again.
    teacher
        A finished run.
    dataset
        Its split ``train`` is varied.
    recipe
        The augmentation, and the preprocessing of the network that learns; the teacher is shown
        the same varied images after its own.
    count
        Views of each image.
    on_view
        Called after each view with how many of how many are there.

    Raises
    ------
    RunError
        The folder holds views of other images or another teacher's maps.
    """

    def __init__(
        self,
        folder: Path,
        teacher: Path,
        dataset: Dataset,
        recipe: Recipe,
        count: int = VIEWS,
        on_view: Callable[[int, int], None] | None = None,
    ) -> None:
        parent = RunRecord.read(teacher)
        self._folder = folder
        self._key = folder / "made-of.json"
        made_of = {
            "teacher": parent.to_dict(),
            "data": dataset.digest(),
            "augmentation": recipe.to_dict()["augmentation"],
            "batch_size": recipe.batch_size,
            "seed": recipe.seed,
            "source_balance": recipe.source_balance,
        }
        if not self._key.exists():
            folder.mkdir(parents=True, exist_ok=True)
            write_atomically(self._key, json.dumps(made_of, indent=2).encode())
        elif json.loads(self._key.read_text(encoding="utf-8")) != made_of:
            raise RunError(f"{folder}: holds views for another teacher; give another folder")
        # As the teacher was trained: how fine the varied images are depends on its input.
        varying = replace(recipe, preprocessing=parent.recipe.preprocessing)
        self._teacher = teacher
        inputs, targets = [], []
        for view in range(count):
            batches = TrainingBatches(dataset.split("train"), dataset.classes, varying, epoch=view)
            targets.append(self._targets(view, batches, varying.preprocessing))
            inputs.append(self._inputs(view, batches, recipe.preprocessing))
            if on_view:
                on_view(view + 1, count)
        self.inputs: NDArray[np.uint8] = np.concatenate(inputs)
        self.targets: NDArray[np.float32] = np.concatenate(targets)
        #: Some of the inputs, to judge channels and fit weights by.
        self.sample = self.inputs[:: max(1, len(self.inputs) // _IMAGES)][:_IMAGES]

    def _inputs(
        self, view: int, batches: TrainingBatches, preprocessing: Preprocessing
    ) -> NDArray[np.uint8]:
        file = self._folder / f"inputs-{preprocessing.size}-{view}.npy"
        if not file.exists():
            _save_array(file, _preprocessed(batches, preprocessing))
        return np.asarray(np.load(file))

    def _targets(
        self,
        view: int,
        batches: TrainingBatches,
        preprocessing: Preprocessing,
    ) -> NDArray[np.float32]:
        file = self._folder / f"targets-{view}.npy"
        if not file.exists():
            inputs = _preprocessed(batches, preprocessing)
            labels = np.concatenate([batches.labels(index) for index in range(len(batches))])
            _save_array(file, map_targets(self._model, inputs, labels))
        return np.asarray(np.load(file))

    @cached_property
    def _model(self) -> keras.Model:
        return keras.saving.load_model(self._teacher / MODEL, compile=False)

    def remove(self) -> None:
        """Delete the files."""
        for file in (*self._folder.glob("*.npy"), self._key):
            file.unlink()
        self._folder.rmdir()


def _preprocessed(batches: TrainingBatches, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Every varied image of an epoch, after another preprocessing than the batches' own."""
    return np.stack(
        [
            preprocessing.apply(image)
            for index in range(len(batches))
            for image in batches.images(index)
        ]
    )


def _save_array(file: Path, values: NDArray[Any]) -> None:
    temporary = file.with_suffix(".part")
    with temporary.open("wb") as stream:
        np.save(stream, values)
    temporary.replace(file)


def map_targets(
    model: keras.Model, inputs: NDArray[np.uint8], labels: NDArray[np.float32]
) -> NDArray[np.float32]:
    """What `losses.Distillation` compares with: each map, flat, then the one-hot label."""
    maps = activation_map_model(model).predict(inputs, batch_size=16, verbose=0)
    flat = np.asarray(maps, np.float32).reshape(len(inputs), -1)
    return np.concatenate([flat, labels], axis=1)


class _ViewBatches(keras.utils.PyDataset):  # type: ignore[misc]  # keras ships no types
    """A share of the views in an order of the epoch's own."""

    def __init__(self, views: Views, recipe: Recipe, epoch: int) -> None:
        super().__init__(workers=1, use_multiprocessing=False)
        self._views = views
        self._recipe = recipe
        self._epoch = epoch
        self._draw()

    def __len__(self) -> int:
        return -(-len(self._order) // self._recipe.batch_size)

    def __getitem__(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        size = self._recipe.batch_size
        chosen = np.sort(self._order[index * size : (index + 1) * size])
        inputs = np.asarray(self._views.inputs[chosen])
        return inputs, np.asarray(self._views.targets[chosen])

    def on_epoch_end(self) -> None:
        """Draw the next epoch's order."""
        self._epoch += 1
        self._draw()

    def _draw(self) -> None:
        rng = np.random.default_rng([self._recipe.seed, self._epoch])
        self._order = rng.permutation(len(self._views.inputs))


def _recover(
    model: keras.Model,
    record: RunRecord,
    folder: Path,
    views: Views,
    validation: _Validation,
    progress: Progress | None,
) -> None:
    """Narrow the model to the record's recipe and train it on the views."""
    if (folder / RECORD).exists():
        found = RunRecord.read(folder)
        made_of = (record.recipe, record.start, record.fraction, record.views)
        if (found.recipe, found.start, found.fraction, found.views) != made_of:
            raise RunError(f"{folder}: holds another run; give another folder")
        if found.finished:
            return
        record = found
    folder.mkdir(parents=True, exist_ok=True)
    recipe, (phase,) = record.recipe, record.recipe.phases
    classes = len(record.classes)
    previous_policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(recipe.precision)
    try:
        keras.utils.set_random_seed(recipe.seed)
        whole = build_network(recipe, classes)
        student = activation_map_model(whole)
        done = len(record.history)
        batches = _ViewBatches(views, recipe, epoch=done)
        if done:
            student = resume(folder, student, fresh_phase=False)
        else:
            keras.config.set_dtype_policy("float32")
            fitted = narrow(model, recipe, classes, views.sample)
            keras.config.set_dtype_policy(recipe.precision)
            whole.set_weights(fitted.get_weights())
            student.compile(
                optimizer=keras.optimizers.AdamW(
                    schedule(at_its_width(recipe), len(batches)),
                    weight_decay=recipe.weight_decay,
                ),
                loss=Distillation(classes, float(np.var(views.targets[:, :-classes]))),
                metrics=[LabelledAccuracy(classes, last=True)],
            )
        recorder = Recorder(record, 0, folder, whole, progress)
        if done < phase.epochs:
            student.fit(
                batches,
                validation_data=(validation.inputs, validation.maps),
                epochs=phase.epochs,
                initial_epoch=done,
                callbacks=[recorder],
                shuffle=False,
                verbose=0,
            )
    finally:
        keras.config.set_dtype_policy(previous_policy)
    finish(recorder.record, folder, (validation.inputs, validation.labels))


def _convolutions(model: keras.Model) -> list[str]:
    return [layer.name for layer in model.layers if "_conv" in layer.name]


def _input_of(model: keras.Model, name: str) -> Any:
    return model.get_layer(name).input


def _least_squares(given: NDArray[np.float32], wanted: NDArray[np.float32]) -> NDArray[np.float32]:
    """Ridge regression with an intercept, its last row."""
    rows = np.concatenate([given, np.ones((len(given), 1), np.float32)], axis=1).astype(np.float64)
    gram = rows.T @ rows
    gram += np.eye(len(gram)) * _RIDGE * np.trace(gram) / len(gram)
    return np.linalg.solve(gram, rows.T @ wanted).astype(np.float32)
