"""Plans: their lines and reasons, the overlay, and how slices fit the time and the memory of a machine."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import yaml
from conftest import BUNDLE
from planning_cases import SETTINGS, abdomen
from sifa.planning.estimate import GIB
from sifa.planning.machine import Machine, describe_machine
from sifa.planning.machine_fit import Fit, fit_machine, is_too_large
from sifa.planning.overlay import render
from sifa.planning.plan import (
    Setting,
    View,
    plan_appearance,
    plan_epochs,
    plan_plane,
    plan_slices,
    view_of,
    wanted_pixels,
)
from sifa.planning.slices import Pixels
from sifa.planning.trial import Trial

CPU = Machine("two cores", False, 2, 16 * GIB, 16 * GIB)
GPU = Machine("a GPU", True, 16, 40 * GIB, 100 * GIB)


def view(adapts: bool = True) -> View:
    return view_of(abdomen(), adapts)


def test_the_plan_of_an_abdomen_has_the_values_of_abdomen_yaml() -> None:
    lines = [plan_plane(view(), "as given"), *plan_slices(view(), wanted_pixels(view()))]
    lines += [plan_epochs(view(), 12, 100, 4, True), *plan_appearance(view(), abdomen())]
    found = {line.name: line.value for line in lines}

    assert found == {name: SETTINGS[name] for name in found}
    assert set(found) >= {"slice_size", "pixel_spacing", "epochs", "match_intensity", "random_appearance_weight"}


def test_each_line_names_the_measured_numbers_behind_it() -> None:
    plane = plan_plane(view(), "as given")
    assert plane.reason == (
        "as given; median rows x columns x slices: source 1.25 x 1.25 x 7.7 and target 2 x 2 x 3 mm"
    )
    size, spacing = plan_slices(view(), Pixels((128, 128), 2.75), "; no larger")
    assert size.reason == "right, the narrowest structure, 61 mm, is 2.8 latents of 22 mm wide; no larger"
    assert spacing.reason == "mm: 352 x 352 mm show the body of 350 x 350 mm; scans have 1.25 and 2 mm"
    assert plan_epochs(view(), 12, 100, 4, True).reason == (
        "of 100 iterations: 564 source and 1573 of 2627 target slices are drawn 5.6 times each"
    )
    assert "3.0 % of the target's tissue is above 200 HU" in plan_appearance(view(), abdomen())[0].reason


def test_without_adaptation_there_is_nothing_to_match_and_only_the_source_counts() -> None:
    assert plan_appearance(view(adapts=False), abdomen()) == []
    assert view(adapts=False).field == (320.0, 320.0)
    assert plan_epochs(view(adapts=False), 12, 100, 4, False).reason == (
        "of 100 iterations: 564 source slices are drawn 8.5 times each"
    )


@pytest.mark.parametrize("sign", ["\n", "\r\n", "\u2028", "\x85", "\x0b", "\x00"])
def test_a_name_cannot_add_a_line_to_the_plan(sign: str) -> None:
    name = f"aorta{sign}epochs: 3"
    text = render([Setting("batch_size", 4, name), Setting("slice_size", [64, 64], f"{name} " * 20)], [name])
    assert set(yaml.safe_load(text)) == {"batch_size", "slice_size", "initialize"}


def test_an_overlay_is_read_back_as_it_was_planned_with_a_reason_for_each_line() -> None:
    settings = [
        Setting("slice_plane", "axial", "as dataset.json says"),
        Setting("slice_size", [128, 128], "long " * 60),
        Setting("match_intensity", {"source": [-0.95, 1], "target": [-0.95, 0.63]}, "no air"),
        Setting("match_field_of_view", False, "as long"),
        Setting("pixel_spacing", 2.75, "mm"),
        Setting("epochs", 15, "of 100"),
        Setting("nothing", None, "off"),
    ]

    text = render(settings, ["note " * 50])

    train = yaml.safe_load((BUNDLE / "configs" / "train.yaml").read_text(encoding="utf-8"))
    expected = {setting.name: setting.value for setting in settings}
    assert yaml.safe_load(text) == {**expected, "initialize": train["initialize"]}
    assert all(len(line) <= 120 for line in text.splitlines())
    assert all(setting.reason.split()[0] in text for setting in settings)


class Measured:
    """Trials whose time and memory grow with the pixels: one second and one GiB for 128 x 128 and a batch of 4."""

    def __init__(self, seconds: float = 1.0, gib: float = 1.0, most: float = math.inf) -> None:
        self.seconds, self.gib, self.most = seconds, gib, most
        self.calls: list[tuple[tuple[int, int], int]] = []

    def __call__(self, pixels: Pixels, batch: int) -> Trial | None:
        self.calls.append((pixels.size, batch))
        factor = math.prod(pixels.size) / 128**2 * batch / 4
        if self.gib * factor > self.most:
            return None
        return Trial(self.seconds * factor, 0.01, 0.01, int(self.gib * factor * GIB), 0)


def fit(machine: Machine, measured: Any, minutes: float = 90, width: float = 0.25) -> Fit:
    return fit_machine(view(), machine, measured, SETTINGS, width, minutes)


def test_slices_that_the_data_call_for_are_kept_where_there_is_time() -> None:
    measured = Measured()
    found = fit(CPU, measured)

    assert found.pixels == found.wanted == Pixels((128, 128), 2.75)
    assert found.batch == 4
    assert found.workers == 0
    assert measured.calls == [((128, 128), 4)]
    assert found.estimate is not None
    assert found.estimate.minutes == pytest.approx((1500 * 1.01 + 15 * 2627 * 0.3 * 0.01) / 60)


def test_slices_become_smaller_where_training_would_take_too_long_and_are_timed_again() -> None:
    measured = Measured(seconds=5)
    found = fit(CPU, measured)

    assert found.pixels.size == (96, 96)  # 1,500 x 5 s are 125 minutes, (96 / 128) ** 2 of them 70
    assert found.wanted.size == (128, 128)
    assert measured.calls == [((128, 128), 4), ((96, 96), 4)]


def test_slices_are_never_smaller_than_64_pixels() -> None:
    assert fit(CPU, Measured(seconds=1000)).pixels.size == (64, 64)


def test_on_a_gpu_slices_are_twice_as_fine() -> None:
    found = fit(GPU, Measured(seconds=0.05), minutes=720)

    assert found.pixels.size == (256, 256)
    assert found.workers == 2


def test_the_batch_is_halved_where_a_trial_runs_out_of_memory() -> None:
    measured = Measured(most=0.6)

    assert fit(CPU, measured).batch == 2
    assert measured.calls == [((128, 128), 4), ((128, 128), 2)]


def test_the_batch_is_halved_where_the_memory_is_nearly_full() -> None:
    tight = replace(CPU, free=int(1.3 * GIB))

    assert fit(tight, Measured()).batch == 2
    assert not is_too_large(fit(tight, Measured()), tight)
    assert is_too_large(fit(replace(CPU, free=GIB // 8), Measured()), replace(CPU, free=GIB // 8))


def test_large_networks_on_a_cpu_are_timed_on_small_slices() -> None:
    measured = Measured(seconds=400)
    found = fit(CPU, measured, minutes=10**6, width=1.0)

    assert measured.calls == [((64, 64), 4)]
    assert found.pixels.size == (128, 128)
    assert found.trial is not None
    assert found.trial.seconds == pytest.approx(400)


def test_without_a_trial_the_data_alone_decide() -> None:
    found = fit(CPU, None)

    assert (found.pixels.size, found.batch, found.workers, found.estimate) == ((128, 128), 4, None, None)


def test_a_machine_is_described_by_its_cores_and_free_memory() -> None:
    machine = describe_machine("cpu")

    assert "CPU cores" in machine.name
    assert machine.cores >= 1
    assert not machine.on_gpu
