"""A segmenter that also returns activations, for discriminators of features."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from sifa.networks.segmenter import Segmenter
from sifa.utils.errors import InputError

LATENT, LOGITS, PROBABILITIES = "latent", "logits", "probabilities"
FIRST_LAYER = 8  # of E at the resolution of the latents


class TappedSegmenter:
    """C(E(.)) that returns activations beside the logits. It shares its weights with `segmenter`.

    Args:
        segmenter: C(E(.)).
        taps: which activations, in the order in which they are joined: `latent`, the output of E; `logits`, those of C
            before the upsampling; `probabilities`, their softmax; or the number of a layer of E, from 8 to 19, see
            `sifa.networks.encoder`. All have the resolution of the latents.

    Raises:
        InputError: when there is no such tap.
    """

    def __init__(self, segmenter: Segmenter, taps: Sequence[str | int]) -> None:
        self.segmenter = segmenter
        self.taps = list(taps)
        last = len(segmenter.encoder.layers) - 1
        for tap in self.taps:
            if tap not in (LATENT, LOGITS, PROBABILITIES, *range(FIRST_LAYER, last + 1)):
                raise InputError(
                    f"taps names {tap!r}: choose from {LATENT}, {LOGITS}, {PROBABILITIES} and the layers of the "
                    f"encoder from {FIRST_LAYER} to {last}."
                )
        if not self.taps:
            raise InputError(f"taps is empty: name at least one, such as {LATENT}.")

    def __call__(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Maps images (B, in_channels, H, W), H and W multiples of 8, to logits and activations.

        Returns:
            Logits (B, out_channels, H, W), and the tapped activations (B, sum of their channels, H / 8, W / 8).
        """
        found: dict[str | int, torch.Tensor] = {}
        latent = image
        for number, layer in enumerate(self.segmenter.encoder.layers):
            latent = layer(latent)
            if number in self.taps:
                found[number] = latent
        found[LATENT] = latent
        if LOGITS in self.taps or PROBABILITIES in self.taps:
            found[LOGITS] = self.segmenter.pixel_classifier.classifier(latent)
            found[PROBABILITIES] = found[LOGITS].softmax(dim=1)
        return self.segmenter.pixel_classifier(latent), torch.cat([found[tap] for tap in self.taps], dim=1)


def tap_channels(segmenter: Segmenter, taps: Sequence[str | int]) -> int:
    """Returns the number of channels of the tapped activations.

    Args:
        segmenter: C(E(.)).
        taps: see `TappedSegmenter`.

    Raises:
        InputError: when there is no such tap.
    """
    return sum(_channels(segmenter, tap) for tap in TappedSegmenter(segmenter, taps).taps)


def _channels(segmenter: Segmenter, tap: str | int) -> int:
    if tap == LATENT:
        return segmenter.encoder.out_channels
    part = segmenter.encoder.layers[tap] if isinstance(tap, int) else segmenter.pixel_classifier
    return [layer for layer in part.modules() if isinstance(layer, nn.Conv2d)][-1].out_channels
