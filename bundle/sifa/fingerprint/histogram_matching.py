"""A curve that gives the source's tissue the intensities that the target's tissue has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from sifa.io.nifti_reader import load_image
from sifa.transforms.intensity import intensity_window, normalize
from sifa.utils.errors import InputError

PROBABILITIES = np.linspace(0, 1, 33)


def matching_curve(
    images: Mapping[str, Sequence[str]],
    intensity: Mapping[str, Mapping[str, Any]],
    tissue: Mapping[str, Sequence[float]],
) -> dict[str, list[float]]:
    """Returns the increasing curve from the source's distribution of intensities to the target's.

    What is brightest among the source's tissue becomes as bright as what is brightest among the target's, and so on
    down: histogram matching, with the mean over volumes of each quantile (Nyul and Udupa, Magn Reson Med 1999). Where
    both modalities show tissues in a similar order, this does a good part of the translation; the rest is G_t's.

    Args:
        images: paths of the training images of `source` and `target`.
        intensity: the fingerprint's entries of both; see `sifa.transforms.intensity.intensity_window`.
        tissue: of both, the least and the greatest intensity in [-1, 1] that counts: no air, and of CT no bone or
            contrast medium, which have no counterpart in MR.

    Returns:
        `from` and `to`: intensities in [-1, 1] of the source, increasing, and what they become; -1, air, stays.

    Raises:
        InputError: when a volume has no tissue.
    """
    source, target = (
        _quantiles(images[domain], intensity[domain], tissue[domain], domain) for domain in ("source", "target")
    )
    return {"from": [-1.0, *source], "to": [-1.0, *target]}


def check_tissue(tissue: Any) -> None:
    """Checks what `matching_curve` is given as `tissue`.

    Raises:
        InputError: when one of the two ranges is missing, or is none within [-1, 1].
    """
    for domain in ("source", "target"):
        given = tissue.get(domain) if isinstance(tissue, Mapping) else None
        numbers = list(given) if isinstance(given, list | tuple) else []
        known = len(numbers) == 2 and all(type(one) in {int, float} for one in numbers)
        if not known or not -1 <= numbers[0] < numbers[1] <= 1:
            raise InputError(
                f"match_intensity is {tissue!r}: give, for {domain} as well, the least and the greatest intensity of "
                "tissue, within [-1, 1] as the network sees it, such as [-0.95, 1]."
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
