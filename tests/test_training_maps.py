"""What a network learns besides the class: where opacities are, and who is not healthy."""

from dataclasses import asdict, fields, replace

import cv2
import numpy as np
import pytest

keras = pytest.importorskip("keras")
pytest.importorskip("sklearn")

from xrayedge.data import Dataset, Sample
from xrayedge.errors import RunError
from xrayedge.preprocessing import Preprocessing
from xrayedge.training.augmentation import Augmentation
from xrayedge.training.averaging import average
from xrayedge.training.distillation import DISGUISE, Teachers, Views, distil
from xrayedge.training.losses import MapLoss, map_loss_targets, targets
from xrayedge.training.network import activation_map_model
from xrayedge.training.pruning import prune
from xrayedge.training.recipe import RECIPES, Phase
from xrayedge.training.run import MODEL, RunRecord
from xrayedge.training.sampling import TrainingBatches, opacity_targets, sampling_weights
from xrayedge.training.train import build_network, map_loss, train

STRETCH = Preprocessing(size=64, fit="stretch", equalisation="none")
STILL = {one.name: 0.0 for one in fields(Augmentation)}


def drawn(boxes, shape):
    """An image that is white in the boxes and black elsewhere."""
    pixels = np.zeros(shape, np.uint8)
    for left, top, right, bottom in boxes:
        rows = slice(round(top * shape[0]), round(bottom * shape[0]))
        columns = slice(round(left * shape[1]), round(right * shape[1]))
        pixels[rows, columns] = 255
    return pixels


@pytest.mark.parametrize("fit", ["stretch", "pad", "crop"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"flip": 1.0},
        {"rotation": 8.0, "zoom": 0.15, "shift": 0.05, "stretch": 0.12},
        {"lung_crop": 1.0, "rotation": 8.0},
    ],
)
def test_boxes_move_with_the_image(fit, changes):
    boxes = [(0.2, 0.3, 0.45, 0.7), (0.6, 0.35, 0.8, 0.5)]
    image = drawn(boxes, (240, 320))
    varied, matrix = Augmentation(**{**STILL, **changes}).vary(
        image, image, np.random.default_rng(3), (0.1, 0.2, 0.9, 0.8)
    )
    preprocessing = replace(STRETCH, size=160, fit=fit)
    seen = preprocessing.apply(varied)[:, :, 0].astype(np.float32) / 255.0
    expected = cv2.resize(seen, (10, 10), interpolation=cv2.INTER_AREA)
    found = opacity_targets(boxes, varied.shape, matrix, preprocessing, (10, 10))
    assert expected.max() > 0.9
    assert np.abs(found - expected).max() < 0.3  # of a place: edges are drawn in eighths
    assert np.abs(found - expected).mean() < 0.02


def test_a_lung_crop_spreads_the_lungs_over_the_image():
    lungs = (0.25, 0.2, 0.75, 0.7)
    image = drawn([lungs], (200, 200))
    cropped, _ = Augmentation(**{**STILL, "lung_crop": 1.0}).vary(
        image, image, np.random.default_rng(0), lungs
    )
    assert (image > 0).mean() == pytest.approx(0.25, abs=0.01)
    assert 0.5 < (cropped > 0).mean() < 1.0


def test_the_loss_of_each_kind_of_label():
    maps = np.zeros((3, 2, 2, 4), np.float32)
    maps[:, :, :, :3] = [2.0, 1.0, 0.0]
    maps[:, 0, 0, 3] = 3.0
    one_hot = np.array([[1, 0, 0], [0, 0, 0], [0, 0, 0]], bool)
    classes = targets(one_hot, np.ones((3, 3), bool))
    places = np.zeros((3, 2, 2), np.float32)
    places[:, 0, 0] = 1.0
    wanted = map_loss_targets(
        classes, np.array([0, 0.5, 0], np.float32), places, np.array([0, 0, 1], np.float32)
    )
    loss = np.asarray(MapLoss(3, healthy=1, opacity=2.0).call(wanted, maps))
    chances = np.exp([2.0, 1.0, 0.0]) / np.exp([2.0, 1.0, 0.0]).sum()
    assert loss[0] == pytest.approx(-np.log(chances[0]), rel=1e-5)
    assert loss[1] == pytest.approx(-0.5 * np.log(1.0 - chances[1]), rel=1e-5)
    assert loss[2] == pytest.approx(2.0 * (np.log1p(np.exp(-3.0)) + 3 * np.log(2.0)) / 4, rel=1e-5)


def test_a_set_of_one_class_does_not_decide_how_often_the_class_is_drawn():
    def some(count, label, data_set):
        return [
            Sample(None, label, "train", f"{data_set}{label}{n}", columns={"set": data_set})
            for n in range(count)
        ]

    samples = [*some(36, "ill", "mixed"), *some(64, "well", "mixed"), *some(400, "well", "alone")]
    weights = sampling_weights(samples, 0.5, set_balance=0.5)
    assert weights.sum() == pytest.approx(1.0)
    assert weights[:100].sum() == pytest.approx(10 / (10 + 20))
    assert weights[:36].sum() / weights[:100].sum() == pytest.approx(6 / (6 + 8))


@pytest.fixture(scope="module")
def discs(tmp_path_factory):
    """Healthy: nothing. Ill: a bright disc, with a box round it. Other: a disc and no class."""
    root = tmp_path_factory.mktemp("discs")
    rng = np.random.default_rng(0)
    samples = []
    for number in range(120):
        label = ("healthy", "covid", "other")[number % 3]
        pixels = rng.integers(90, 140, (64, 64)).astype(np.uint8)
        boxes = ()
        if label != "healthy":
            x, y = (int(value) for value in rng.integers(14, 50, 2))
            cv2.circle(pixels, (x, y), 10, 230, -1)
            boxes = (((x - 10) / 64, (y - 10) / 64, (x + 10) / 64, (y + 10) / 64),)
        path = root / f"{number}.png"
        cv2.imwrite(str(path), pixels)
        split = "val" if number >= 90 else "train"
        samples.append(Sample(path, label, split, str(number), "one", number, opacity_boxes=boxes))
    return Dataset(tuple(samples), ("covid", "healthy"))


@pytest.fixture(scope="module")
def runs(discs, tmp_path_factory):
    """A network of classes alone, and one that goes on from it with everything."""
    root = tmp_path_factory.mktemp("runs")
    plain = replace(
        RECIPES["frontal"],
        turned_label=None,
        phases=(Phase(2, 1e-3, 1),),
        preprocessing=STRETCH,
        keep="last",
    )
    classes = tuple(one for one in discs.samples if one.label in discs.classes)
    name = {"data_name": {"name": "discs"}}
    train(replace(discs, samples=classes), plain, root / "plain", **name)
    everything = replace(
        RECIPES["hospitals"].for_network_of(plain),
        preprocessing=replace(STRETCH, size=96),
        augmentation=Augmentation(**{**STILL, "flip": 0.5, "shift": 0.05}),
        phases=(Phase(20, 3e-3, 1),),
        batch_size=8,
    )
    train(discs, everything, root / "everything", start=root / "plain", **name)
    return root


def test_a_run_learns_where_the_opacity_is_and_who_is_not_healthy(discs, runs):
    model = keras.saving.load_model(runs / "everything" / MODEL, compile=False)
    held_out = [one for one in discs.split("val") if one.label != "healthy"]
    size = replace(STRETCH, size=96)
    inputs = np.stack([size.apply(cv2.imread(str(one.path), 0)) for one in held_out])
    maps = np.asarray(activation_map_model(model).predict(inputs, verbose=0))
    assert maps.shape == (len(held_out), 3, 3, 3)
    hits = 0
    for one, found in zip(held_out, maps[..., 2], strict=True):
        row, column = np.unravel_index(found.argmax(), found.shape)
        left, top, right, bottom = one.opacity_boxes[0]
        hits += left < (column + 1) / 3 and column / 3 < right
        hits += top < (row + 1) / 3 and row / 3 < bottom
    assert hits / (2 * len(held_out)) > 0.85
    logits = np.asarray(model.predict(inputs, verbose=0))
    assert logits.shape == (len(held_out), 2)
    others = np.array([one.label == "other" for one in held_out])
    assert (logits[others, 0] > logits[others, 1]).mean() > 0.8


def test_pruned_and_averaged_networks_keep_the_channel(discs, runs, tmp_path):
    teacher = runs / "everything"
    changes = {"phases": (Phase(1, 1e-3, 1),), "seed": 1}
    prune(teacher, discs, 0.5, tmp_path / "narrow", view_count=1, changes=changes)
    smaller = RECIPES["hospitals-fine"].for_network_of(RunRecord.read(teacher).recipe)
    smaller = replace(smaller.adjusted(size=64, epochs=1), batch_size=64)
    train(discs, smaller, tmp_path / "smaller", data_name={"name": "discs"}, start=teacher)
    mean = average([teacher, tmp_path / "smaller"], discs, tmp_path / "mean")
    assert mean.recipe.preprocessing.size == 96
    for folder in ("narrow", "mean"):
        model = keras.saving.load_model(tmp_path / folder / MODEL, compile=False)
        assert activation_map_model(model).output.shape[-1] == 3
        assert model.output.shape[-1] == 2


def test_a_student_learns_its_teachers_maps_and_the_labels(discs, runs, tmp_path):
    """A student without the channel and with a smaller map; interrupted once."""
    settings = {
        "size": 64,
        "views": tmp_path / "views",
        "view_count": 2,
        "disguise": None,  # of an image of 64 pixels it leaves too little
        "changes": {"phases": (Phase(3, 3e-3, 1),)},
    }
    teachers = [runs / "everything", runs / "everything"]

    class PowerCut(Exception):
        pass

    def cut(number, total, epoch):
        if number == 2:
            raise PowerCut

    with pytest.raises(PowerCut):
        distil(runs / "plain", teachers, discs, tmp_path / "out", progress=cut, **settings)
    losses = []
    record = distil(
        runs / "plain",
        teachers,
        discs,
        tmp_path / "out",
        progress=lambda number, total, epoch: losses.append(number),
        **settings,
    )
    assert losses == [3]
    assert record == RunRecord.read(tmp_path / "out")
    assert [epoch.loss for epoch in record.history] == sorted(
        (epoch.loss for epoch in record.history), reverse=True
    )
    assert record.teachers == (RunRecord.read(runs / "everything").to_dict(),) * 2
    student = keras.saving.load_model(tmp_path / "out" / MODEL, compile=False)
    assert activation_map_model(student).output.shape == (None, 2, 2, 3)
    shown = np.load(tmp_path / "views" / "targets-2x2-1.npy")
    wanted = shown[:, -2 * 2 * 3 :].reshape(-1, 2, 2, 3)
    inputs = np.load(tmp_path / "views" / "inputs-64-none-1.npy")
    found = np.asarray(activation_map_model(student).predict(inputs, verbose=0))
    error = np.square(found - wanted).mean() / wanted.var()
    assert error < 0.6
    with pytest.raises(RunError, match="holds a finished run"):
        distil(runs / "plain", teachers, discs, tmp_path / "out", **settings)
    with pytest.raises(RunError, match="no channel for opacities"):
        distil(runs / "everything", [runs / "plain"], discs, tmp_path / "none")


def test_blended_images_teach_what_the_teachers_say_and_no_label(discs, runs, tmp_path):
    teachers = Teachers([runs / "everything"])
    recipe = RECIPES["hospitals"].for_network_of(teachers.records[0].recipe)

    def seen(share):
        folder = tmp_path / str(share)
        views = Views(folder, teachers, discs, recipe, (3, 3), count=1, blended=share)
        loss = map_loss(recipe, discs.classes).call(views.targets, views.maps.reshape(-1, 3, 3, 3))
        return views, np.asarray(loss)

    (plain, plain_loss), (some, some_loss), (every, every_loss) = map(seen, (0.0, 0.5, 1.0))
    assert (plain_loss > 0).all()
    assert every_loss == pytest.approx(0.0)
    changed = (some.inputs != plain.inputs).any(axis=(1, 2, 3))
    assert 0.3 < changed.mean() < 0.7
    assert (some_loss[~changed] == plain_loss[~changed]).all()
    assert some_loss[changed] == pytest.approx(0.0)
    # A blend of two images lies between them, and so do its grey values.
    assert every.inputs.std() < plain.inputs.std()
    found = teachers.maps([image[..., 0] for image in some.inputs[changed][:4]], (3, 3))
    assert found.ravel() == pytest.approx(some.maps[changed][:4].ravel(), abs=1e-4)


def test_opacities_are_those_of_the_teacher_with_the_finest_map(discs, runs, tmp_path):
    coarse = RunRecord.read(runs / "everything")
    fine = coarse.recipe.adjusted(size=128, epochs=1)
    name = {"data_name": {"name": "discs"}}
    train(discs, fine, tmp_path / "fine", start=runs / "everything", **name)
    folders = [runs / "everything", tmp_path / "fine"]
    images = [cv2.imread(str(one.path), 0) for one in discs.split("val")[:4]]
    both = Teachers(folders).maps(images, (4, 4))
    first, second = (Teachers([folder]).maps(images, (4, 4)) for folder in folders)
    assert both[..., :2] == pytest.approx((first + second)[..., :2] / 2, abs=1e-5)
    assert both[..., 2] == pytest.approx(second[..., 2], abs=1e-5)
    assert np.abs(first[..., 2] - second[..., 2]).max() > 0.1


def test_a_student_sees_in_disguise_what_its_teachers_see_as_it_is(discs, runs, tmp_path):
    teachers = Teachers([runs / "everything"])
    recipe = RECIPES["hospitals"].for_network_of(teachers.records[0].recipe)
    plain, disguised = (
        Views(tmp_path / str(n), teachers, discs, recipe, (3, 3), count=1, disguise=disguise)
        for n, disguise in enumerate((None, DISGUISE))
    )
    assert (disguised.targets == plain.targets).all()
    changed = (disguised.inputs != plain.inputs).any(axis=(1, 2, 3))
    assert changed.mean() > 0.9
    with pytest.raises(RunError, match="another teacher"):
        Views(tmp_path / "0", teachers, discs, recipe, (3, 3), count=1, disguise=DISGUISE)


def test_a_disguise_leaves_everything_in_its_place():
    image = np.zeros((80, 80), np.uint8)
    for seed in range(20):
        _, matrix = DISGUISE.vary(image, image, np.random.default_rng(seed), (0.1, 0.1, 0.9, 0.9))
        assert matrix == pytest.approx(np.eye(2, 3))


def test_a_student_without_its_last_pooling_keeps_its_lower_blocks(discs, runs, tmp_path):
    widths = ((4,), (4,), (8,), (8,), (8,))
    begun = RunRecord.read(runs / "everything")
    recipe = replace(begun.recipe, architecture="vgg16", widths=widths)
    (tmp_path / "begun").mkdir()
    replace(begun, recipe=recipe).write(tmp_path / "begun")
    before = build_network(recipe, 2)
    before.save(tmp_path / "begun" / MODEL)
    record = distil(
        tmp_path / "begun",
        [runs / "everything"],
        discs,
        tmp_path / "out",
        view_count=1,
        fine_map=True,
        changes={"phases": (Phase(1, 3e-3, first_block=4),)},
    )
    assert (record.blended, record.disguise) == (0.5, asdict(DISGUISE))
    after = keras.saving.load_model(tmp_path / "out" / MODEL, compile=False)
    assert activation_map_model(before).output.shape[1:3] == (3, 3)
    assert activation_map_model(after).output.shape[1:3] == (6, 6)
    for block, learns in ((1, False), (3, False), (4, True), (5, True)):
        kernels = [
            model.get_layer(f"block{block}_conv1").get_weights()[0] for model in (before, after)
        ]
        assert (kernels[0] != kernels[1]).any() == learns
    folders = [tmp_path / "out", tmp_path / "begun"]
    mean = average(folders, discs, tmp_path / "mean")
    assert mean.recipe.architecture == "vgg16-half-side"
    averaged = keras.saving.load_model(tmp_path / "mean" / MODEL, compile=False)
    assert activation_map_model(averaged).output.shape[1:3] == (6, 6)
    with pytest.raises(RunError, match="no last pooling"):
        distil(runs / "everything", [runs / "everything"], discs, tmp_path / "no", fine_map=True)


def test_what_a_batch_shows_depends_on_the_epoch_alone(discs):
    recipe = replace(RECIPES["hospitals"], preprocessing=STRETCH, batch_size=4)
    first, again = (
        TrainingBatches(discs.split("train"), discs.classes, recipe, 0, places=(4, 4))[1]
        for _ in range(2)
    )
    for one, other in zip(first, again, strict=True):
        assert np.array_equal(one, other)
    assert first[1].shape == (4, 2 * 2 + 2 + 16)


def test_a_network_with_the_channel_gives_scores_of_the_classes_alone():
    recipe = replace(RECIPES["frontal"], opacity=1.0, turned_label=None)
    model = build_network(recipe, 3)
    assert model.output.shape == (None, 3)
    assert activation_map_model(model).output.shape[-1] == 4


def test_a_recipe_is_adjusted_in_its_last_phase():
    changes = {"size": 160, "equalisation": "global", "epochs": 3, "learning_rate": 1e-5}
    recipe = RECIPES["vgg16"].adjusted(**changes)
    assert recipe.preprocessing == Preprocessing(160, "stretch", "global")
    assert recipe.phases == (RECIPES["vgg16"].phases[0], Phase(3, 1e-5, first_block=3))
    assert RECIPES["vgg16"].adjusted() == RECIPES["vgg16"]
