"""Histogram matching: a curve from the intensities of the source's tissue to those of the target's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from sifa.io.scan_reader import load_image
from sifa.transforms.intensity import intensity_window, normalize
from sifa.utils.errors import InputError

PROBABILITIES = np.linspace(0, 1, 33)


def matching_curve(
    images: Mapping[str, Sequence[str]],
    intensity: Mapping[str, Mapping[str, Any]],
    tissue: Mapping[str, Sequence[float]],
) -> dict[str, list[float]]:
    """Returns the increasing curve from the source's distribution of intensities to the target's.

    Each quantile of the source's tissue, averaged over volumes, is mapped to the same quantile of the target's (Nyul
    and Udupa, Magn Reson Med 1999). Where both modalities show tissues in a similar order of brightness, this does much
    of the translation and leaves the rest to G_t.

    Args:
        images: paths of the training images of `source` and `target`.
        intensity: the intensity rules of both; see `sifa.transforms.intensity.intensity_window`.
        tissue: the range of tissue of both, in [-1, 1]: without air, and in CT without bone and contrast medium, which
            have no counterpart in MR.

    Returns:
        `from` and `to`: increasing intensities of the source in [-1, 1], and what they are mapped to; -1, air, stays.

    Raises:
        InputError: when a volume has no tissue.
    """
    source, target = (
        _quantiles(images[domain], intensity[domain], tissue[domain], domain) for domain in ("source", "target")
    )
    return {"from": [-1.0, *source], "to": [-1.0, *target]}


def check_tissue(tissue: Any) -> None:
    """Checks the ranges that `matching_curve` takes as `tissue`.

    Raises:
        InputError: when one of the two ranges is missing, or is not within [-1, 1].
    """
    for domain in ("source", "target"):
        given = tissue.get(domain) if isinstance(tissue, Mapping) else None
        numbers = list(given) if isinstance(given, list | tuple) else []
        known = len(numbers) == 2 and all(type(one) in {int, float} for one in numbers)
        if not known or not -1 <= numbers[0] < numbers[1] <= 1:
            raise InputError(
                f"match_intensity is {tissue!r}: give the lowest and the highest intensity of tissue for {domain} as "
                "well, within [-1, 1] as the network sees it, such as [-0.95, 1]."
            )


def _quantiles(images: Sequence[str], rule: Mapping[str, Any], tissue: Sequence[float], domain: str) -> list[float]:
    found = []
    for path in tqdm(images, desc=f"intensities, {domain}", leave=False, disable=None):
        volume = load_image(path).as_tensor()
        values = normalize(volume, *intensity_window(volume, rule)).numpy()
        values = values[(values >= tissue[0]) & (values <= tissue[1])]
        if values.size == 0:
            raise InputError(
                f"{path}: no intensity lies within {list(tissue)} of match_intensity: correct its {domain}."
            )
        found.append(np.quantile(values, PROBABILITIES))
    return [round(float(value), 4) for value in np.mean(found, axis=0)]
