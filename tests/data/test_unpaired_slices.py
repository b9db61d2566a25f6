"""Unpaired slices: cutting, drawing from both domains, sharing among processes, and augmentation."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders import Array, make_fingerprint, refusal, write_nifti
from monai.bundle import ConfigParser
from monai.engines import Trainer
from monai.transforms import Compose, LoadImaged, Randomizable
from sifa.data.slice_cache import prepare_volumes
from sifa.data.unpaired_slices import Draw, UnpairedSampler, UnpairedSlices
from sifa.data.worker_init import start_worker
from torch.utils.data import DataLoader

CONFIG = Path(__file__).resolve().parents[2] / "bundle" / "configs" / "train.yaml"
SIZE = 48  # pixels of a slice that is augmented


def numbered(item: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """A preprocessing without files: item `{"image": "<first>:<count>"}` becomes slices that hold their own number."""
    first, count = map(int, item["image"].split(":"))
    slices = torch.arange(first, first + count).float().expand(1, 2, 2, count)
    return {"image": slices, "label": slices % 3}


def slices_of(source_size: int, target_size: int) -> UnpairedSlices:
    """Returns this many slices; source slice i holds i, target slice i holds 1000 + i."""
    target = [{"image": f"1000:{target_size}"}] if target_size else []
    return UnpairedSlices([{"image": f"0:{source_size}", "label": "-"}], numbered, target, numbered)


def draws_of(source_size: int, target_size: int, epoch: int = 1, **options: Any) -> list[Draw]:
    """Returns the draws of one epoch."""
    sampler = UnpairedSampler(slices_of(source_size, target_size), **options)
    sampler.set_epoch(epoch)
    return list(sampler)


# --- labeled target slices ---


def with_labeled(labeled: str | None = "2000:5") -> UnpairedSlices:
    pairs = [{"image": labeled, "label": "-"}] if labeled else []
    source, target = [{"image": "0:7", "label": "-"}], [{"image": "1000:9"}]
    return UnpairedSlices(
        source, numbered, target, numbered, labeled_target_data=pairs, labeled_target_preprocessing=numbered
    )


def test_labeled_target_slices_are_drawn_apart_each_as_often_as_the_others_and_with_their_labels() -> None:
    slices = with_labeled()
    draws = list(UnpairedSampler(slices, batch_size=5, iterations=4, seed=3))
    samples = [slices[draw] for draw in draws]
    numbers = [int(sample["labeled_target_image"].flatten()[0]) for sample in samples]
    assert sorted(numbers) == sorted([*range(2000, 2005)] * 4)
    assert all((sample["labeled_target_label"] == sample["labeled_target_image"] % 3).all() for sample in samples)
    assert any(draw.labeled_index != draw.source_index for draw in draws)


def test_they_leave_the_draws_of_source_and_target_as_they_are() -> None:
    first, second = (list(UnpairedSampler(with_labeled(one), 4, 3, seed=5)) for one in ("2000:5", None))
    assert [draw[:3] for draw in first] == [draw[:3] for draw in second]
    assert {draw.labeled_index for draw in second} == {0}
    assert "labeled_target_image" not in with_labeled(None)[second[0]]


def test_without_source_volumes_there_are_target_slices_alone_where_that_is_allowed() -> None:
    slices = UnpairedSlices([], numbered, [{"image": "1000:9"}], numbered, needs_source=False)
    (sample, *_) = [slices[draw] for draw in UnpairedSampler(slices, batch_size=2, iterations=2)]
    assert set(sample) == {"target_image"}
    assert "no labeled source images" in refusal(lambda: UnpairedSlices([], numbered, [{"image": "1000:9"}], numbered))


# --- cutting ---


def test_slices_come_along_the_last_axis_volume_after_volume_and_contiguous_in_memory() -> None:
    volumes = {
        "a": torch.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5).float(),
        "b": -torch.arange(2 * 3 * 4 * 2).reshape(2, 3, 4, 2).float(),
    }

    found = prepare_volumes(
        [{"image": "a"}, {"image": "b"}], lambda item: {"image": volumes[item["image"]]}, ("image",), ""
    )
    slices = [found[index]["image"] for index in range(len(found))]

    assert len(slices) == 7
    assert all(one.is_contiguous() for one in slices)
    assert all(torch.equal(slices[index], volumes["a"][..., index]) for index in range(5))
    assert all(torch.equal(slices[5 + index], volumes["b"][..., index]) for index in range(2))


def test_image_and_label_of_a_sample_are_of_the_same_slice_of_the_same_volume() -> None:
    dataset = UnpairedSlices([{"image": "0:4", "label": "-"}, {"image": "10:5", "label": "-"}], numbered)

    for index, number in enumerate([0, 1, 2, 3, 10, 11, 12, 13, 14]):
        sample = dataset[Draw(index, 0, 0)]

        assert sample["source_image"].shape == sample["source_label"].shape == (1, 2, 2)
        assert sample["source_image"].unique().tolist() == [number]
        assert sample["source_label"].unique().tolist() == [number % 3]
        assert sample["source_label"].dtype == torch.uint8
    assert dataset.source_size == 9


def test_an_epoch_is_as_long_as_the_larger_domain() -> None:
    for source_size, target_size in ((5, 8), (8, 5), (8, 0)):
        dataset = slices_of(source_size, target_size)

        assert (dataset.source_size, dataset.target_size, len(dataset)) == (source_size, target_size, 8)


def test_the_frequencies_of_the_source_count_every_pixel_of_every_volume_and_classes_that_are_absent() -> None:
    data = [{"image": "0:4", "label": "-"}, {"image": "10:2", "label": "-"}]  # labels 0, 1, 2, 0 and 1, 2

    found = UnpairedSlices(data, numbered, [{"image": "0:9"}], numbered).source_frequencies(5)

    assert found.tolist() == pytest.approx([2 / 6, 2 / 6, 2 / 6, 0, 0])
    assert UnpairedSlices(data[:1], numbered).source_frequencies(3).tolist() == [0.5, 0.25, 0.25]


def test_without_target_images_a_sample_holds_only_the_source() -> None:
    assert set(slices_of(3, 0)[Draw(1, 0, 0)]) == {"source_image", "source_label"}


def test_samples_are_plain_tensors_that_a_loader_can_batch() -> None:
    dataset = slices_of(5, 7)
    batches = list(DataLoader(dataset, batch_size=2, sampler=UnpairedSampler(dataset, batch_size=2, iterations=3)))

    assert len(batches) == 3
    for batch in batches:
        assert {key: tuple(value.shape) for key, value in batch.items()} == dict.fromkeys(
            ("source_image", "source_label", "target_image"), (2, 1, 2, 2)
        )
        assert all(type(value) is torch.Tensor for value in batch.values())


def test_target_labels_are_never_loaded(tmp_path: Path) -> None:
    volume = np.random.default_rng(0).random((4, 4, 3), np.float32)
    source = {
        "image": str(write_nifti(tmp_path / "mr.nii", volume)),
        "label": str(write_nifti(tmp_path / "mr_label.nii", (volume > 0.5).astype(np.uint8))),
    }
    target = {"image": str(write_nifti(tmp_path / "ct.nii", volume)), "label": str(tmp_path / "does_not_exist.nii")}
    seen: list[set[str]] = []

    def load(item: Mapping[str, Any]) -> Mapping[str, Any]:
        seen.append(set(item))
        return LoadImaged(keys=["image", "label"], ensure_channel_first=True, allow_missing_keys=True)(item)

    dataset = UnpairedSlices([source], load, [target], load)

    assert seen == [{"image", "label"}, {"image"}]
    assert set(dataset[Draw(0, 0, 0)]) == {"source_image", "source_label", "target_image"}
    assert torch.allclose(dataset[Draw(0, 2, 0)]["target_image"][0], torch.as_tensor(volume[..., 2]))


def test_no_source_images_are_refused() -> None:
    refusal(lambda: UnpairedSlices([], numbered, [{"image": "0:3"}], numbered))


@pytest.mark.parametrize("domain", ["source", "target"])
@pytest.mark.parametrize("kind", ["missing", "empty", "text", "cut off"])
def test_a_volume_that_cannot_be_read_is_named(tmp_path: Path, domain: str, kind: str) -> None:
    good = write_nifti(tmp_path / "good.nii.gz", np.random.default_rng(0).random((9, 9, 9), np.float32))
    bad = tmp_path / "bad.nii.gz"
    if kind != "missing":
        bad.write_bytes({"empty": b"", "text": b"not an image", "cut off": good.read_bytes()[:1500]}[kind])
    load = Compose([LoadImaged(keys=["image", "label"], ensure_channel_first=True, allow_missing_keys=True)])
    items = [{"image": str(path), "label": str(good)} for path in (good, bad)]
    source, target = (items, items[:1]) if domain == "source" else (items[:1], items)

    message = refusal(lambda: UnpairedSlices(source, load, target, load))

    assert message.startswith(str(bad))


# --- drawing ---


def test_the_two_domains_are_drawn_in_orders_that_do_not_depend_on_each_other() -> None:
    draws = draws_of(60, 60, batch_size=10, iterations=6)
    other_target = draws_of(60, 37, batch_size=10, iterations=6)
    other_source = draws_of(23, 60, batch_size=10, iterations=6)

    source, target = [draw.source_index for draw in draws], [draw.target_index for draw in draws]
    assert source != target
    assert sum(draw.source_index == draw.target_index for draw in draws) < 8
    assert [draw.source_index for draw in other_target] == source
    assert [draw.target_index for draw in other_source] == target


def test_a_source_slice_meets_other_target_slices_in_each_epoch() -> None:
    pairs = [{draw[:2] for draw in draws_of(60, 60, epoch, batch_size=10, iterations=6)} for epoch in (1, 2)]

    assert len(pairs[0] & pairs[1]) < 8


@pytest.mark.parametrize(("source_size", "target_size"), [(5, 12), (12, 5), (7, 7)])
def test_all_slices_of_a_domain_are_drawn_before_any_repeats(source_size: int, target_size: int) -> None:
    draws = draws_of(source_size, target_size, batch_size=6, iterations=6)

    for size, order in (
        (source_size, [draw.source_index for draw in draws]),
        (target_size, [draw.target_index for draw in draws]),
    ):
        rounds = [order[start : start + size] for start in range(0, len(order), size)]
        assert all(sorted(part) == list(range(size)) for part in rounds if len(part) == size)
        assert all(len(set(part)) == len(part) for part in rounds)
        assert len({tuple(part) for part in rounds}) == len(rounds)  # each time in a new order


def test_draws_depend_on_the_seed_and_the_epoch_and_on_nothing_else() -> None:
    options = {"batch_size": 4, "iterations": 5}
    first = draws_of(9, 13, epoch=3, seed=5, **options)
    torch.manual_seed(1)
    np.random.seed(1)

    assert draws_of(9, 13, epoch=3, seed=5, **options) == first
    for other in (draws_of(9, 13, epoch=4, seed=5, **options), draws_of(9, 13, epoch=3, seed=6, **options)):
        assert [draw.source_index for draw in other] != [draw.source_index for draw in first]
        assert [draw.target_index for draw in other] != [draw.target_index for draw in first]
        assert not {draw.seed for draw in other} & {draw.seed for draw in first}


def test_every_draw_has_its_own_seed() -> None:
    draws = draws_of(3, 3, batch_size=10, iterations=10)

    assert len({draw.seed for draw in draws}) == len(draws)


@pytest.mark.parametrize("replicas", [2, 3])
def test_processes_share_an_epoch_without_overlap_and_without_a_gap(replicas: int) -> None:
    alone = draws_of(12, 24, batch_size=4 * replicas, iterations=24 // (4 * replicas))
    shares = [
        draws_of(12, 24, batch_size=4, iterations=24 // (4 * replicas), num_replicas=replicas, rank=rank)
        for rank in range(replicas)
    ]

    assert [len(share) for share in shares] == [24 // replicas] * replicas
    assert Counter(draw for share in shares for draw in share) == Counter(alone)
    assert sorted(draw.target_index for share in shares for draw in share) == list(range(24))


@pytest.mark.parametrize(("batch_size", "replicas", "expected"), [(4, 1, 24), (5, 1, 20), (4, 2, 12), (100, 1, 100)])
def test_without_a_number_of_iterations_an_epoch_takes_what_the_larger_domain_fills(
    batch_size: int, replicas: int, expected: int
) -> None:
    sampler = UnpairedSampler(slices_of(6, 24), batch_size, num_replicas=replicas)

    assert len(sampler) == len(list(sampler)) == expected


def test_without_target_images_draws_still_name_a_source_slice() -> None:
    assert sorted(draw.source_index for draw in draws_of(8, 0, batch_size=4, iterations=2)) == list(range(8))


def test_monais_trainer_moves_the_sampler_from_epoch_to_epoch() -> None:
    dataset = slices_of(40, 40)
    loader: DataLoader[Any] = DataLoader(dataset, batch_size=8, sampler=UnpairedSampler(dataset, 8, iterations=5))
    epochs: dict[int, list[float]] = {}

    def note(engine: Any, batch: Mapping[str, torch.Tensor]) -> dict[str, Any]:
        epochs.setdefault(engine.state.epoch, []).extend(batch["source_image"][:, 0, 0, 0].tolist())
        return {}

    def train() -> dict[int, list[float]]:
        epochs.clear()
        Trainer(torch.device("cpu"), 3, loader, iteration_update=note, decollate=False).run()
        return dict(epochs)

    first = train()

    assert all(sorted(order) == list(range(40)) for order in first.values())
    assert len({tuple(order) for order in first.values()}) == 3
    assert train() == first


@pytest.mark.parametrize("replicas", [1, 2])
def test_a_pass_that_skips_iterations_is_the_rest_of_the_full_one(replicas: int) -> None:
    dataset = slices_of(12, 24)
    for rank in range(replicas):
        sampler = UnpairedSampler(dataset, batch_size=4, iterations=5, num_replicas=replicas, rank=rank)
        sampler.set_epoch(3)
        full = list(sampler)

        sampler.skip(2)

        assert len(sampler) == len(full) == 20
        assert list(sampler) == full[8:]
        assert list(sampler) == full  # in one pass only


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_continues_within_an_epoch_and_starts_the_next_one_at_its_beginning(workers: int) -> None:
    dataset = slices_of(40, 40)
    sampler = UnpairedSampler(dataset, 8, iterations=5)
    loader: DataLoader[Any] = DataLoader(dataset, batch_size=8, sampler=sampler, num_workers=workers)

    def run_from(iteration: int) -> list[list[float]]:
        def note(engine: Any, batch: Mapping[str, torch.Tensor]) -> dict[str, Any]:
            seen.append(batch["source_image"][:, 0, 0, 0].tolist())
            return {}

        seen: list[list[float]] = []
        trainer = Trainer(torch.device("cpu"), 3, loader, iteration_update=note, decollate=False)
        trainer.state.iteration, trainer.state.epoch = iteration, iteration // 5
        sampler.skip(iteration % 5)
        trainer.run()
        return seen

    full = run_from(0)

    assert len(full) == 15
    assert run_from(7) == full[7:]
    assert run_from(10) == full[10:]


# --- augmentation, with the transforms of train.yaml ---


def augmentation_of(**changes: Any) -> Callable[[Mapping[str, Any]], Mapping[str, Any]]:
    """Returns the configured augmentation of slices of 48 x 48; `changes` go to both affine transforms."""
    parser = ConfigParser()
    parser.read_config(str(CONFIG))
    parser["slice_size"] = [SIZE, SIZE]
    parser["fingerprint"] = make_fingerprint(slice_size=(SIZE, SIZE))
    transforms = parser["augmentation_transforms"]
    for transform in transforms:
        if transform["_target_"] == "RandAffined":
            transform.update(changes)
    return parser.get_parsed_content("train#augmentation")


@pytest.fixture(scope="module")
def strong() -> Callable[[Mapping[str, Any]], Mapping[str, Any]]:
    """The configured augmentation with rotations up to 60 degrees, always applied."""
    return augmentation_of(prob=1.0, rotate_range=1.05)


def square_with_label() -> tuple[Array, Array]:
    """Returns a slice that is background (-1) except for a bright, off-center bar, and the bar's label."""
    label = np.zeros((SIZE, SIZE), np.uint8)
    label[10:22, 14:40] = 2
    return np.where(label == 2, 1.0, -1.0).astype(np.float32), label


def augmented(
    augmentation: Callable[[Mapping[str, Any]], Mapping[str, Any]], image: Array, label: Array, seeds: Sequence[int]
) -> list[dict[str, torch.Tensor]]:
    """Returns samples of one slice, which is both source and target, augmented by each seed."""

    def volumes(item: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        return {"image": torch.as_tensor(image)[None, ..., None], "label": torch.as_tensor(label)[None, ..., None]}

    dataset = UnpairedSlices([{"image": "-", "label": "-"}], volumes, [{"image": "-"}], volumes, augmentation)
    return [dataset[Draw(0, 0, seed)] for seed in seeds]


def test_pixels_rotated_in_from_outside_are_background_and_not_mid_gray(
    strong: Callable[[Mapping[str, Any]], Mapping[str, Any]],
) -> None:
    image = np.full((SIZE, SIZE), -1, np.float32)
    image[SIZE // 2 - 4 : SIZE // 2 + 4, SIZE // 2 - 4 : SIZE // 2 + 4] = 1  # stays inside however it is turned

    for sample in augmented(strong, image, np.zeros_like(image, dtype=np.uint8), range(8)):
        for key in ("source_image", "target_image"):
            found = sample[key][0]
            border = torch.cat([found[:4].ravel(), found[-4:].ravel(), found[:, :4].ravel(), found[:, -4:].ravel()])
            assert torch.allclose(border, torch.tensor(-1.0), atol=1e-6), key
            assert float(found.max()) > 0.9
            assert float(found.min()) >= -1 - 1e-6


def test_where_a_bright_slice_leaves_the_frame_image_and_label_become_background(
    strong: Callable[[Mapping[str, Any]], Mapping[str, Any]],
) -> None:
    image, label = np.ones((SIZE, SIZE), np.float32), np.full((SIZE, SIZE), 3, np.uint8)

    samples = augmented(strong, image, label, range(8))

    filled = 0
    for sample in samples:
        outside = sample["source_image"][0] < -0.99
        filled += int(outside.sum())
        assert set(sample["source_label"].unique().tolist()) <= {0, 3}
        assert not bool(sample["source_label"][0][outside].any())
        assert bool((sample["source_label"][0][sample["source_image"][0] > 0.99] == 3).all())
    assert filled > 8 * 20


@pytest.mark.parametrize("strength", ["configured", "strong"])
def test_image_and_label_move_together_and_classes_are_not_mixed(
    strong: Callable[[Mapping[str, Any]], Mapping[str, Any]], strength: str
) -> None:
    image, label = square_with_label()
    moved = 0

    for sample in augmented(strong if strength == "strong" else augmentation_of(), image, label, range(8)):
        bright, labeled = sample["source_image"][0] > 0, sample["source_label"][0] == 2
        overlap = 2 * float((bright & labeled).sum()) / float(bright.sum() + labeled.sum())
        assert overlap > 0.93
        assert set(sample["source_label"].unique().tolist()) == {0, 2}
        moved += not np.array_equal(labeled.numpy(), label == 2)
    assert moved >= 6


def test_source_and_target_are_turned_independently() -> None:
    image, label = square_with_label()

    samples = augmented(augmentation_of(prob=1.0), image, label, range(8))

    assert not any(torch.allclose(sample["source_image"], sample["target_image"], atol=0.1) for sample in samples)


def test_the_seed_of_a_draw_decides_its_augmentation() -> None:
    image, label = square_with_label()
    augmentation = augmentation_of(prob=1.0)

    first, other, again = augmented(augmentation, image, label, [5, 6, 5])

    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not any(torch.equal(first[key], other[key]) for key in first)


def test_augmentation_leaves_the_stored_slices_as_they_are() -> None:
    image, label = square_with_label()

    def volumes(item: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        return {"image": torch.as_tensor(image)[None, ..., None], "label": torch.as_tensor(label)[None, ..., None]}

    dataset = UnpairedSlices(
        [{"image": "-", "label": "-"}], volumes, [{"image": "-"}], volumes, augmentation_of(prob=0.5)
    )
    for seed in range(6):
        assert dataset[Draw(0, 0, seed)]["source_image"].shape == (1, SIZE, SIZE)

    assert np.array_equal(dataset.source[0]["image"][0], image)
    assert np.array_equal(dataset.target[0]["image"][0], image)
    assert np.array_equal(dataset.source[0]["label"][0], label)


def test_without_target_images_the_source_is_augmented_all_the_same() -> None:
    image, label = square_with_label()

    def volumes(item: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        return {"image": torch.as_tensor(image)[None, ..., None], "label": torch.as_tensor(label)[None, ..., None]}

    dataset = UnpairedSlices([{"image": "-", "label": "-"}], volumes, augmentation=augmentation_of(prob=1.0))
    sample = dataset[Draw(0, 0, 1)]

    assert set(sample) == {"source_image", "source_label"}
    assert not np.array_equal(sample["source_image"][0], image)


# --- workers of the loader ---


def test_batches_do_not_depend_on_the_number_of_workers() -> None:
    image, label = square_with_label()

    def volumes(item: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        return {"image": torch.as_tensor(image)[None, ..., None], "label": torch.as_tensor(label)[None, ..., None]}

    dataset = UnpairedSlices(
        [{"image": "-", "label": "-"}] * 5, volumes, [{"image": "-"}] * 7, volumes, augmentation_of()
    )

    def batches(workers: int) -> list[dict[str, torch.Tensor]]:
        sampler = UnpairedSampler(dataset, 2, iterations=5)
        return list(DataLoader(dataset, batch_size=2, sampler=sampler, num_workers=workers))

    for alone, shared in zip(batches(0), batches(2), strict=True):
        assert all(torch.equal(alone[key], shared[key]) for key in ("source_image", "source_label", "target_image"))


class Unseeded:
    """An augmentation that ignores the seed of a draw: it uses the global generators and one of its own."""

    def __init__(self) -> None:
        self.own = Randomizable()

    def __call__(self, sample: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        numbers = [random.random(), np.random.random(), float(torch.rand(())), self.own.R.random()]
        return {"numbers": torch.tensor(numbers, dtype=torch.float64)}


def test_workers_give_augmentations_without_a_seed_numbers_that_differ_and_can_be_repeated() -> None:
    dataset = UnpairedSlices([{"image": "0:8", "label": "-"}], numbered, augmentation=Unseeded())

    def numbers(seed: int) -> list[list[float]]:
        torch.manual_seed(seed)
        sampler = UnpairedSampler(dataset, 1, iterations=8)
        loader: DataLoader[Any] = DataLoader(dataset, sampler=sampler, num_workers=2, worker_init_fn=start_worker)
        return [batch["numbers"][0].tolist() for batch in loader]

    first = numbers(0)

    assert len({number for sample in first for number in sample}) == 8 * 4
    assert numbers(0) == first
    assert not {number for sample in numbers(1) for number in sample} & {
        number for sample in first for number in sample
    }
