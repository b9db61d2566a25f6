"""The networks of SIFA, and the images and logits that they compute from a batch."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from monai.networks import one_hot
from torch import nn

from sifa.adaptation.hidden_padding import hide_in_image, hide_in_logits
from sifa.networks import PatchDiscriminator, Segmenter, TargetGenerator
from sifa.networks.batch_norm import running_statistics_held
from sifa.training.iteration_update import Batch
from sifa.training.mixed_precision import MixedPrecision, in_full
from sifa.utils.keys import UPDATES


@dataclass
class SIFANetworks:
    """The networks of one run. `prediction_discriminator` (D_p) is None where FA-P is switched off."""

    segmenter: Segmenter  # C(E(.))
    target_generator: TargetGenerator  # G_t
    source_decoder: nn.Module  # U
    target_discriminator: nn.Module  # D_t
    source_discriminator: PatchDiscriminator  # D_s; two output channels where FA-I is on, else one
    prediction_discriminator: nn.Module | None = None  # D_p

    def by_name(self) -> dict[str, nn.Module]:
        """Returns the networks that there are, in the order of the updates of the paper."""
        return {name: getattr(self, name) for name in UPDATES if getattr(self, name) is not None}


class SIFAForward:
    """The networks of SIFA as functions that compute in one precision, and whose results hide padding.

    Args:
        networks: the networks.
        precision: the precision that they compute in.
    """

    def __init__(self, networks: SIFANetworks, precision: MixedPrecision) -> None:
        self.num_guiding_classes = networks.target_generator.num_classes
        self.batch_norm_of = networks.segmenter.encoder
        self.encoder = precision.forward(networks.segmenter.encoder)
        self.classifier = precision.forward(networks.segmenter.pixel_classifier)
        self.generator = precision.forward(networks.target_generator)
        self.decoder = precision.forward(networks.source_decoder)
        self.target_discriminator = precision.forward(networks.target_discriminator)
        self.source_discriminator = precision.forward(networks.source_discriminator)
        discriminator = networks.prediction_discriminator
        self.prediction_discriminator = None if discriminator is None else precision.forward(discriminator)

    def running_statistics_held(self) -> AbstractContextManager[None]:
        """Returns a context in which passes through E leave its running batch-norm statistics unchanged."""
        return running_statistics_held(self.batch_norm_of)

    def translate_source(self, batch: Batch) -> torch.Tensor:
        """Returns G_t(x_s), (B, C, H, W); with guided translation G_t also gets y_s, one channel a class."""
        if not self.num_guiding_classes:
            return hide_in_image(self.generator(batch.source_image), batch.inside)
        classes = one_hot(batch.source_label, self.num_guiding_classes, batch.source_image.dtype)
        return hide_in_image(self.generator(batch.source_image, classes), batch.inside)

    def decode(self, batch: Batch, latent: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        """Returns U of a latent and the image that it is of, (B, C, H, W)."""
        return hide_in_image(self.decoder(latent, image), batch.inside)

    def classify(self, batch: Batch, latent: torch.Tensor) -> torch.Tensor:
        """Returns C of a latent, (B, num_classes, H, W)."""
        return hide_in_logits(self.classifier(latent), batch.inside)

    def translate_back(self, batch: Batch, fake_source: torch.Tensor, target_logits: torch.Tensor) -> torch.Tensor:
        """Returns G_t(U(E(x_t))), (B, C, H, W).

        Args:
            batch: the batch.
            fake_source: U(E(x_t)), (B, C, H, W).
            target_logits: C(E(x_t)), (B, num_classes, H, W). With guided translation G_t also gets its probabilities,
                through which no gradient flows.
        """
        if not self.num_guiding_classes:
            return hide_in_image(self.generator(fake_source), batch.inside)
        probabilities = in_full(target_logits.detach()).softmax(dim=1)
        return hide_in_image(self.generator(fake_source, probabilities), batch.inside)
