"""Training on small images, with the frontal check's network: seconds, not minutes."""

import json
import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest

keras = pytest.importorskip("keras")
pytest.importorskip("sklearn")

from xrayedge.data import Sample, load_dataset
from xrayedge.errors import DatasetError, RunError
from xrayedge.training import network
from xrayedge.training.averaging import average
from xrayedge.training.distillation import FULL_RATE_WIDTH, at_its_width
from xrayedge.training.generalisation import leave_one_source_out
from xrayedge.training.network import activation_map_model
from xrayedge.training.pruning import (
    FINAL,
    importance,
    layer_costs,
    narrow,
    plan,
    prune,
)
from xrayedge.training.recipe import RECIPES, Phase, Recipe
from xrayedge.training.run import CHECKPOINT, MODEL, RunRecord
from xrayedge.training.sampling import TrainingBatches, sampling_weights
from xrayedge.training.train import build_network, train


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Bright discs and dark ones."""
    root = tmp_path_factory.mktemp("discs")
    rng = np.random.default_rng(0)
    for label, level in (("bright", 220), ("dark", 30)):
        (root / label).mkdir()
        for number in range(18):
            pixels = rng.integers(90, 140, (60, 60)).astype(np.uint8)
            centre = tuple(int(value) for value in rng.integers(20, 40, 2))
            cv2.circle(pixels, centre, 14, level, -1)
            cv2.imwrite(str(root / label / f"{number}.png"), pixels)
    return load_dataset(root)


@pytest.fixture(scope="module")
def recipe():
    phases = (
        Phase(epochs=1, learning_rate=1e-3, first_block=None),
        Phase(epochs=3, learning_rate=1e-3, first_block=1),
    )
    return replace(RECIPES["frontal"], phases=phases, batch_size=8, turned_label=None)


def run(dataset, recipe, out, progress=None):
    return train(dataset, recipe, out, data_name={"name": "discs", "where": []}, progress=progress)


@pytest.fixture(scope="module")
def finished(dataset, recipe, tmp_path_factory):
    """The folder of a whole run, which no test changes, and what `train` returned."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    return folder, run(dataset, recipe, folder)


def test_a_run_says_how_it_was_made(dataset, recipe, finished):
    folder, record = finished
    assert record.finished
    assert len(record.history) == recipe.epochs
    assert RunRecord.read(folder) == record
    assert record.recipe == recipe
    assert record.data["digest"] == dataset.digest()
    assert record.versions["keras"] == keras.__version__
    assert not (folder / CHECKPOINT).exists()
    values = json.loads((folder / "run.json").read_text())
    assert values["best_epoch"] == record.best_epoch


def test_an_interrupted_run_ends_like_one_that_was_not(dataset, recipe, finished, tmp_path):
    folder, whole = finished

    class PowerCut(Exception):
        pass

    for stop_after in (1, 3):

        def cut(number, total, epoch, stop_after=stop_after):
            if number == stop_after:
                raise PowerCut

        with pytest.raises(PowerCut):
            run(dataset, recipe, tmp_path / "cut", cut)
    resumed = run(dataset, recipe, tmp_path / "cut")
    assert len(resumed.history) == recipe.epochs
    for one, other in zip(whole.history, resumed.history, strict=True):
        assert one.val_loss == pytest.approx(other.val_loss, rel=1e-3)
    first, second = (
        keras.saving.load_model(one / MODEL, compile=False).get_weights()
        for one in (folder, tmp_path / "cut")
    )
    for one, other in zip(first, second, strict=True):
        assert np.allclose(one, other, atol=1e-4)


def test_a_run_can_begin_with_another_ones_model(dataset, recipe, finished, tmp_path):
    folder, first = finished
    gentle = replace(recipe, phases=(Phase(epochs=1, learning_rate=1e-9, first_block=1),))
    names = {"data_name": {"name": "discs"}, "start": folder}
    second = train(dataset, gentle, tmp_path / "second", **names)
    assert second.start == first.to_dict()
    assert second.history[0].val_loss == pytest.approx(
        first.history[first.best_epoch].val_loss, rel=1e-3
    )
    other = replace(dataset, classes=("bright", "dim"))
    with pytest.raises(RunError, match="knows the classes bright, dark"):
        train(other, gentle, tmp_path / "third", **names)
    pruned = replace(gentle, widths=((16,), (16,), (16,), (16,)))
    with pytest.raises(RunError, match="other widths"):
        train(dataset, pruned, tmp_path / "fourth", **names)
    assert pruned.for_network_of(first.recipe) == gentle


def test_frozen_layers_are_computed_once_and_stay(dataset, recipe, tmp_path):
    """Without augmentation only what learns runs in each epoch; the result is a whole network."""
    phases = (
        Phase(epochs=2, learning_rate=1e-2, first_block=None, decay="inverse_time"),
        Phase(epochs=2, learning_rate=1e-3, first_block=4),
    )
    still = replace(recipe, phases=phases, augmentation=None, keep="last")
    without_val = replace(
        dataset, samples=tuple(one for one in dataset.samples if one.split != "val")
    )
    record = run(without_val, still, tmp_path / "whole")
    assert record.best_epoch == 3
    assert record.history[0].val_loss is None

    def cut(number, total, epoch):
        if number == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(without_val, still, tmp_path / "cut", cut)
    run(without_val, still, tmp_path / "cut")
    keras.utils.set_random_seed(still.seed)
    untrained = network.build(network.ARCHITECTURES["frontal"], size=96, classes=2)
    whole, resumed = (
        keras.saving.load_model(tmp_path / name / MODEL, compile=False) for name in ("whole", "cut")
    )
    for layer in untrained.layers:
        for before, after, again in zip(
            layer.get_weights(),
            whole.get_layer(layer.name).get_weights(),
            resumed.get_layer(layer.name).get_weights(),
            strict=True,
        ):
            learns = layer.name.startswith(("block4", "block5", "activation"))
            assert np.array_equal(before, after) != learns
            assert np.allclose(after, again, atol=1e-4)


def test_each_source_is_judged_by_a_model_that_never_saw_it(dataset, recipe, tmp_path):
    names = ("north", "south")
    samples = tuple(
        replace(one, source=names[index % 2]) for index, one in enumerate(dataset.samples)
    )
    spread = replace(dataset, samples=samples)
    lone = replace(samples[0], source="lone", split="test")
    folds = list(
        leave_one_source_out(
            replace(spread, samples=(*samples, lone)),
            replace(recipe, phases=(Phase(1, 1e-3, 1),)),
            tmp_path,
            data_name={"name": "discs"},
        )
    )
    assert [fold.source for fold in folds] == ["north", "south"]
    for fold in folds:
        held_out = [one for one in samples if one.source == fold.source and one.split != "test"]
        assert fold.evaluation.images == len(held_out)
        assert RunRecord.read(tmp_path / fold.source).data["without"] == fold.source
    one_class_each = tuple(replace(one, source=one.label) for one in samples)
    with pytest.raises(DatasetError, match="no source can be left out"):
        next(
            leave_one_source_out(
                replace(spread, samples=one_class_each), recipe, tmp_path / "no", data_name={}
            )
        )


def test_two_trainings_do_not_share_a_folder(dataset, recipe, tmp_path):
    class Seen(Exception):
        pass

    def second(number, total, epoch):
        with pytest.raises(RunError, match="another process is training into it"):
            run(dataset, recipe, tmp_path / "run")
        raise Seen

    with pytest.raises(Seen):
        run(dataset, recipe, tmp_path / "run", second)
    assert len(RunRecord.read(tmp_path / "run").history) == 1  # what is finished stays


def test_a_failed_start_leaves_no_folder(dataset, recipe, tmp_path):
    untested = replace(dataset, samples=dataset.split("train"))
    with pytest.raises(RunError, match="split val"):
        run(untested, recipe, tmp_path / "run")
    with pytest.raises(RunError, match="there is no such file"):
        train(
            *(dataset, replace(RECIPES["vgg16"], turned_label=None), tmp_path / "run"),
            data_name={},
            weights=tmp_path / "no-such.npz",
        )
    assert not (tmp_path / "run").exists()


def test_pruning_without_val_fails_first(dataset, recipe, tmp_path):
    untested = replace(dataset, samples=dataset.split("train"))
    short = replace(recipe, phases=recipe.phases[:1], keep="last")
    run(untested, short, tmp_path / "run")
    with pytest.raises(RunError, match="split val"):
        prune(tmp_path / "run", untested, 0.5, tmp_path / "narrow")
    assert not (tmp_path / "narrow").exists()


def test_a_finished_or_foreign_run_is_not_overwritten(dataset, recipe, finished, tmp_path):
    shutil.copytree(finished[0], tmp_path, dirs_exist_ok=True)
    before = (tmp_path / MODEL).read_bytes()
    with pytest.raises(RunError, match="finished"):
        run(dataset, recipe, tmp_path)
    RunRecord.read(tmp_path)
    unfinished = replace(RunRecord.read(tmp_path), finished=False)
    unfinished.write(tmp_path)
    with pytest.raises(RunError, match="another recipe"):
        run(dataset, replace(recipe, seed=9), tmp_path)
    assert (tmp_path / MODEL).read_bytes() == before


def test_classes_are_drawn_equally_and_small_sources_more_often():
    samples = (
        [Sample(None, "ill", "train", str(n), "big") for n in range(81)]
        + [Sample(None, "ill", "train", str(n), "small") for n in range(9)]
        + [Sample(None, "well", "train", str(n), "big") for n in range(10)]
    )
    weights = sampling_weights(samples, source_balance=0.5)
    assert weights.sum() == pytest.approx(1.0)
    assert weights[90:].sum() == pytest.approx(0.5)
    assert weights[81:90].sum() == pytest.approx(0.5 * 3 / (9 + 3))


def test_batches_depend_on_the_epoch_alone(dataset, recipe):
    samples = dataset.split("train")
    later = TrainingBatches(samples, dataset.classes, recipe, epoch=0)
    first = later[0][0]
    later.on_epoch_end()
    started = TrainingBatches(samples, dataset.classes, recipe, epoch=1)
    assert np.array_equal(later[1][0], started[1][0])
    assert not np.array_equal(first, started[0][0])


def test_an_average_is_a_run_of_its_own(dataset, recipe, tmp_path):
    folders = [tmp_path / name for name in ("one", "two")]
    short = replace(recipe, phases=(Phase(epochs=1, learning_rate=1e-3, first_block=1),))
    for seed, folder in enumerate(folders):
        run(dataset, replace(short, seed=seed), folder)
    record = average(folders, dataset, tmp_path / "mean")
    assert RunRecord.read(tmp_path / "mean") == record
    assert [parent["recipe"]["seed"] for parent in record.averaged] == [0, 1]
    one, two, mean = (
        keras.saving.load_model(folder / MODEL, compile=False).get_weights()
        for folder in (*folders, tmp_path / "mean")
    )
    for first, second, both in zip(one, two, mean, strict=True):
        assert np.allclose((first + second) / 2, both, atol=1e-6)
    average(folders, dataset, tmp_path / "mostly", shares=[3, 1])
    mostly = keras.saving.load_model(tmp_path / "mostly" / MODEL, compile=False).get_weights()
    for first, second, both in zip(one, two, mostly, strict=True):
        assert np.allclose(0.75 * first + 0.25 * second, both, atol=1e-6)
    smaller = average(folders, dataset, tmp_path / "smaller", size=32)
    assert smaller.recipe.preprocessing.size == 32
    resized = keras.saving.load_model(tmp_path / "smaller" / MODEL, compile=False)
    assert resized.input_shape == (None, 32, 32, 1)
    with pytest.raises(RunError, match="needs as many shares"):
        average(folders, dataset, tmp_path / "another", shares=[1.0])
    with pytest.raises(RunError, match="holds a run"):
        average(folders, dataset, tmp_path / "mean")
    with pytest.raises(RunError, match="two runs"):
        average(folders[:1], dataset, tmp_path / "another")
    wide = replace(short, preprocessing=replace(short.preprocessing, fit="crop"))
    run(dataset, wide, tmp_path / "wide")
    with pytest.raises(RunError, match="wide: other layers, preprocessing"):
        average([*folders, tmp_path / "wide"], dataset, tmp_path / "another")


def test_a_pruned_run_is_smaller_and_goes_on_where_it_stopped(dataset, recipe, tmp_path):
    wide = replace(recipe, widths=((32,), (48,), (48,), (64,)), phases=recipe.phases[:1])
    parent = run(dataset, wide, tmp_path / "wide")
    size, classes = parent.recipe.preprocessing.size, len(parent.classes)
    settings = {
        "steps": 2,
        "view_count": 2,
        "changes": {"phases": (Phase(2, learning_rate=1e-3, first_block=1),)},
    }

    class PowerCut(Exception):
        pass

    def cut(number, total, epoch):
        if total == 2:  # the last step's first epoch
            raise PowerCut

    with pytest.raises(PowerCut):
        prune(tmp_path / "wide", dataset, 0.5, tmp_path / "narrow", progress=cut, **settings)
    record = prune(tmp_path / "wide", dataset, 0.5, tmp_path / "narrow", **settings)
    assert record.finished
    assert len(record.history) == 2
    assert record == RunRecord.read(tmp_path / "narrow")
    for after, before in zip(
        layer_costs(record.recipe.widths, size, classes),
        layer_costs(parent.recipe.widths, size, classes),
        strict=True,
    ):
        assert sum(after) <= 0.51 * sum(before)  # the head keeps its part
    model = keras.saving.load_model(tmp_path / "narrow" / MODEL, compile=False)
    assert model.output_shape == (None, classes)
    assert sorted(path.name for path in (tmp_path / "narrow").iterdir()) == [
        MODEL,
        "run.json",
        "step-1",
    ]
    again = prune(tmp_path / "wide", dataset, 0.5, tmp_path / "narrow", **settings)
    assert again == record
    with pytest.raises(RunError, match="narrow: holds another run"):
        prune(tmp_path / "wide", dataset, 0.4, tmp_path / "narrow", **settings)
    with pytest.raises(RunError, match="no network of this kind"):
        prune(tmp_path / "wide", dataset, 0.001, tmp_path / "none", **settings)


def test_a_pruned_network_of_wide_layers_learns_at_a_lower_rate(recipe):
    def rate(widest):
        wide = replace(recipe, widths=((16, 24), (widest,)), phases=(FINAL,))
        return at_its_width(wide).learning_rate

    assert rate(FULL_RATE_WIDTH) == rate(16) == FINAL.learning_rate
    assert rate(2 * FULL_RATE_WIDTH) == pytest.approx(0.5 * FINAL.learning_rate)


def test_pruning_can_halve_the_side_and_keeps_the_places_of_the_map(dataset, recipe, tmp_path):
    """The narrower network sees the same varied images as its teacher, only smaller."""
    widths = ((16,), (24,))
    wide = replace(
        recipe,
        architecture="vgg16",
        widths=widths,
        preprocessing=replace(recipe.preprocessing, size=32),
    )
    parent = replace(wide, name="parent")
    discs = {"data_name": {"name": "discs", "where": []}}
    (tmp_path / "frontal").mkdir()
    run(dataset, replace(recipe, widths=((16,), (16,))), tmp_path / "frontal")
    with pytest.raises(RunError, match="no frontal for inputs of half the side"):
        prune(tmp_path / "frontal", dataset, 1.0, tmp_path / "none", half_side=True)
    first = tmp_path / "first"
    train(dataset, parent, first, weights=_random_weights(tmp_path, widths), **discs)
    seen = []
    record = prune(
        first,
        dataset,
        0.9,
        tmp_path / "half",
        half_side=True,
        views=tmp_path / "views",
        view_count=2,
        changes={"phases": (Phase(1, learning_rate=1e-3, first_block=1),)},
        on_view=lambda number, total: seen.append((number, total)),
    )
    assert seen == [(1, 2), (2, 2)]
    assert record.recipe.preprocessing == replace(parent.preprocessing, size=16)
    assert record.views == 2
    whole, half = (
        activation_map_model(keras.saving.load_model(folder / MODEL, compile=False))
        for folder in (first, tmp_path / "half")
    )
    assert whole.input_shape[1:3] == (32, 32)
    assert half.input_shape[1:3] == (16, 16)
    assert whole.output_shape == half.output_shape == (None, 8, 8, 2)
    equalisation = parent.preprocessing.equalisation
    shrunk = np.load(tmp_path / "views" / f"inputs-16-{equalisation}-0.npy")
    assert len(shrunk) == len(np.load(tmp_path / "views" / "targets-8x8-0.npy"))
    # Another fraction learns from the same views: the teacher need not look again.
    before = (tmp_path / "views" / "targets-8x8-1.npy").stat().st_mtime_ns
    prune(
        first,
        dataset,
        1.0,
        tmp_path / "all",
        half_side=True,
        views=tmp_path / "views",
        view_count=2,
        changes={"phases": record.recipe.phases},
    )
    assert (tmp_path / "views" / "targets-8x8-1.npy").stat().st_mtime_ns == before


def _random_weights(folder, widths):
    """An ``.npz`` as `load_imagenet` reads it, for a narrow chain."""
    rng = np.random.default_rng(0)
    arrays, channels = {}, 3
    for block, (width,) in enumerate(widths, start=1):
        kernel = rng.normal(0.0, 0.1, (3, 3, channels, width)).astype(np.float32)
        arrays[f"block{block}_conv1/kernel"] = kernel
        arrays[f"block{block}_conv1/bias"] = np.zeros(width, np.float32)
        channels = width
    np.savez(folder / "weights.npz", **arrays)
    return folder / "weights.npz"


def test_channels_that_nothing_reads_go_first_and_least_squares_keeps_the_rest(recipe):
    rng = np.random.default_rng(0)
    wide = replace(recipe, widths=((32,), (32,)))
    model = build_network(wide, 2)
    kernel, bias = model.get_layer("block2_conv1").get_weights()
    kernel[:, :, ::2] = 0.0  # half of the channels below are not read
    model.get_layer("block2_conv1").set_weights([kernel, bias])
    inputs = rng.integers(0, 256, (16, 96, 96, 1), dtype=np.uint8)
    share = importance(model, inputs)[0]
    assert share[::2].max() == 0.0
    assert share.sum() == pytest.approx(1.0)
    smaller = narrow(model, replace(wide, widths=((16,), (32,))), 2, inputs)
    assert np.allclose(
        model.predict(inputs, verbose=0), smaller.predict(inputs, verbose=0), rtol=0.05, atol=0.05
    )


def test_the_plan_takes_what_is_worth_least_for_its_cost():
    even = [np.full(32, 1 / 32), np.full(32, 1 / 32)]
    assert layer_costs(((32,), (32,)), 8, 1)[0] == [64 * 9 * 32, 16 * 9 * 32 * 32, 4 * 32]
    uneven = [even[0], np.r_[np.full(16, 1e-6), np.full(16, 1 / 16 - 1e-6)]]
    assert plan(uneven, ((32,), (32,)), 8, 0.6) == ((32,), (16,))


def test_a_recipe_survives_the_record():
    for recipe in RECIPES.values():
        assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe
