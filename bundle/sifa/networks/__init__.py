"""The networks of SIFA; their defaults are the paper's."""

from sifa.networks.batch_norm import for_inference
from sifa.networks.encoder import Encoder
from sifa.networks.latent_discriminator import LatentDiscriminator
from sifa.networks.network_average import NetworkAverage
from sifa.networks.patch_discriminator import PatchDiscriminator
from sifa.networks.pixel_classifier import PixelClassifier
from sifa.networks.segmenter import Segmenter
from sifa.networks.source_decoder import SourceDecoder
from sifa.networks.synchronized_batch_norm import with_synchronized_batch_norm
from sifa.networks.tapped_segmenter import TappedSegmenter, tap_channels
from sifa.networks.target_generator import TargetGenerator
from sifa.networks.weights import freeze, load_weights

__all__ = [
    "Encoder",
    "LatentDiscriminator",
    "NetworkAverage",
    "PatchDiscriminator",
    "PixelClassifier",
    "Segmenter",
    "SourceDecoder",
    "TappedSegmenter",
    "TargetGenerator",
    "for_inference",
    "freeze",
    "load_weights",
    "tap_channels",
    "with_synchronized_batch_norm",
]
