"""The optimizers of adversarial methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import nn
from torch.optim import Adam, RMSprop

from sifa.adaptation.sifa_networks import SIFANetworks


def adam_optimizers(
    networks: SIFANetworks | Mapping[str, nn.Module],
    segmenter_lr: float,
    adversarial_lr: float,
    adversarial_betas: Sequence[float],
    weight_decay: float,
) -> dict[str, Adam]:
    """Returns an Adam optimizer for each network (Section "Network configurations and implementation details").

    Args:
        networks: the networks; one of them is `segmenter`.
        segmenter_lr: learning rate of the segmenter, E and C together.
        adversarial_lr: learning rate of all other networks: generators and discriminators.
        adversarial_betas: Adam's beta1 and beta2 of these; the segmenter has PyTorch's defaults, 0.9 and 0.999.
        weight_decay: L2 term of the segmenter: `weight_decay` / 2 times the sum of its squared parameters.
    """
    named = networks.by_name() if isinstance(networks, SIFANetworks) else networks
    first, second = adversarial_betas
    return {
        name: Adam(network.parameters(), lr=segmenter_lr, weight_decay=weight_decay, fused=True)
        if name == "segmenter"
        else Adam(network.parameters(), lr=adversarial_lr, betas=(first, second), fused=True)
        for name, network in named.items()
    }


def rmsprop_optimizers(networks: Mapping[str, nn.Module], lr: float, weight_decay: float) -> dict[str, RMSprop]:
    """Returns an RMSProp optimizer for each network, as PnP-AdaNet has them.

    Args:
        networks: the networks or the parts of them that train, by name.
        lr: learning rate.
        weight_decay: L2 term: `weight_decay` / 2 times the sum of squared parameters.
    """
    return {name: RMSprop(network.parameters(), lr=lr, weight_decay=weight_decay) for name, network in networks.items()}
