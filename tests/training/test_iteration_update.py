"""The update that MONAI's trainer calls, with a method of two stages: one network learns from a frozen one."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from conftest import BUNDLE
from iterations import BATCHES, train
from sifa.networks import freeze
from sifa.networks.weights import hash_of
from sifa.training.iteration_update import Batch, IterationUpdate, Stateful
from sifa.training.mixed_precision import MixedPrecision
from torch import nn
from torch.optim import Optimizer


class Counter:
    """A state of the method's own."""

    def __init__(self) -> None:
        self.count = 0

    def state_dict(self) -> Mapping[str, int]:
        return {"count": self.count}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        self.count = state["count"]


class Distillation:
    """Learns to compute what a frozen network computes; the smallest method with a frozen part."""

    name = "distillation"

    def __init__(self, student: nn.Module, teacher: nn.Module) -> None:
        self.counter = Counter()
        self.networks: Mapping[str, nn.Module] = {"segmenter": student}
        self.frozen: Mapping[str, nn.Module] = {"teacher": freeze(teacher)}
        self.optimizers: Mapping[str, Optimizer] = {"segmenter": torch.optim.SGD(student.parameters(), 0.1)}
        self.shared_state: Mapping[str, Stateful] = {}
        self.process_state: Mapping[str, Stateful] = {"counter": self.counter}
        self.precision = MixedPrecision()

    def step(self, batch: Batch, epoch: int) -> dict[str, torch.Tensor]:
        assert not any(layer.training for layer in self.frozen["teacher"].modules())
        assert all(layer.training for layer in self.networks["segmenter"].modules())
        self.counter.count += 1
        difference = self.networks["segmenter"](batch.source_image) - self.frozen["teacher"](batch.source_image)
        loss = difference.square().mean()
        return {**self.precision.step("segmenter", self.optimizers["segmenter"], loss), "loss": loss}


def layers(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2), nn.Conv2d(2, 3, 1)).double()


def update_of(student: int = 0, teacher: int = 1) -> IterationUpdate:
    return IterationUpdate(Distillation(layers(student), layers(teacher)))


def test_a_frozen_network_stays_as_it_is_to_the_last_bit_batch_norm_buffers_included() -> None:
    update = update_of()
    update.method.frozen["teacher"].train()  # whatever state it is left in
    outputs = train(update, BATCHES, epochs=3)
    assert hash_of(update.method.frozen["teacher"]) == hash_of(layers(1))
    assert hash_of(update.method.networks["segmenter"]) != hash_of(layers(0))
    assert outputs[-1]["loss"] < outputs[0]["loss"]


def test_frozen_networks_are_not_saved_and_their_hash_is_in_the_identity() -> None:
    update = update_of()
    assert set(update.state_dict()["networks"]) == {"segmenter"}
    assert update.identity() == {"name": "distillation", "frozen": {"teacher": hash_of(layers(1))}}
    assert update.identity() != update_of(teacher=2).identity()


def test_a_restored_update_continues_as_if_it_had_not_been_interrupted() -> None:
    update, other = update_of(), update_of(student=5)
    train(update, BATCHES[:1])
    other.load_state_dict(copy.deepcopy(update.state_dict()))
    other.load_process_state_dict(copy.deepcopy(update.process_state_dict()))
    for one in (update, other):
        train(one, BATCHES[1:])
    assert hash_of(other.method.networks["segmenter"]) == hash_of(update.method.networks["segmenter"])
    assert update.process_state_dict() == other.process_state_dict() == {"counter": {"count": 2}}


def test_a_batch_without_target_images_has_none() -> None:
    seen: list[Batch] = []

    class Looking(Distillation):
        def step(self, batch: Batch, epoch: int) -> dict[str, torch.Tensor]:
            seen.append(batch)
            return super().step(batch, epoch)

    batch = {name: value for name, value in BATCHES[0].items() if name != "target_image"}
    train(IterationUpdate(Looking(layers(0), layers(1))), [batch])
    assert seen[0].target_image.shape == (0, *batch["source_image"].shape[1:])


def classes_of(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Yields each class below a folder with the names of its bases."""
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                yield node.name, [ast.unparse(base).split(".")[-1] for base in node.bases]


def test_methods_and_the_update_are_composed_and_nothing_inherits_from_them() -> None:
    closed = {"IterationUpdate", "SIFA", "SIFASimultaneous", "SourceOnly"}
    found = {name for folder in (BUNDLE / "sifa", BUNDLE.parent / "scripts") for name, _ in classes_of(folder)}
    folders = (BUNDLE / "sifa", BUNDLE.parent / "scripts", BUNDLE.parent / "tests")
    heirs = [name for folder in folders for name, bases in classes_of(folder) if closed & set(bases)]
    assert closed <= found
    assert heirs == []
