"""The networks: sizes, shapes, and the properties that the paper gives them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
import torch
from sifa.networks import Encoder, PatchDiscriminator, PixelClassifier, Segmenter, SourceDecoder, TargetGenerator
from sifa.networks.blocks import ResidualBlock, scaled
from sifa.utils.errors import InputError
from torch import nn
from torch.nn import functional

WIDTH = 1 / 32
CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)
Network = TypeVar("Network", bound=nn.Module)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def draw_image(*shape: int) -> torch.Tensor:
    return 2 * torch.rand(shape) - 1


def stirred(network: Network) -> Network:
    """Draws weights and running statistics at random, so that every path has a visible effect; evaluation mode."""
    for layer in network.modules():
        if isinstance(layer, CONVOLUTIONS):
            layer.reset_parameters()
        if isinstance(layer, nn.BatchNorm2d) and layer.running_mean is not None and layer.running_var is not None:
            nn.init.normal_(layer.running_mean, 0, 0.1)
            nn.init.uniform_(layer.running_var, 0.1, 0.5)
    return network.eval()


def without_parameters(build: Callable[[], Network]) -> Network:
    """Builds a network on the meta device: shapes without memory."""
    with torch.device("meta"):
        return build()


def convolutions_of(network: nn.Module) -> list[nn.Conv2d | nn.ConvTranspose2d]:
    return [layer for layer in network.modules() if isinstance(layer, CONVOLUTIONS)]


# --- Sizes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "millions"),
    [
        (Encoder, 27.5),
        (TargetGenerator, 2.85),
        (SourceDecoder, 1.90),
        (PatchDiscriminator, 2.77),
        (lambda: PatchDiscriminator(out_channels=2), 2.77),
        (lambda: PatchDiscriminator(in_channels=5), 2.77),
        (lambda: PatchDiscriminator(norm_first=False), 2.77),
    ],
    ids=["E", "G_t", "U", "D_t", "D_s", "D_p", "the authors' D_t"],
)
def test_at_full_width_a_network_has_the_parameters_of_the_paper(
    build: Callable[[], nn.Module], millions: float
) -> None:
    tolerance = 0.05 if millions > 10 else 0.01
    network = without_parameters(build)
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(millions, abs=tolerance)


def test_the_encoder_is_c16_r16_m_r32_m_2r64_m_2r128_4r256_2r512_2d512_2c512() -> None:
    found: list[tuple[int, int, int]] = []
    pools_before: list[int] = []
    for layer in without_parameters(Encoder).modules():
        if isinstance(layer, nn.Conv2d):
            found.append((layer.out_channels, layer.kernel_size[0], layer.dilation[0]))
        if isinstance(layer, nn.MaxPool2d):
            pools_before.append(len(found))
    blocks = [16, 32, 64, 64, 128, 128, 256, 256, 256, 256, 512, 512]
    expected = [(16, 7, 1), *((k, 3, 1) for k in blocks for _ in range(2)), *[(512, 3, 2)] * 4, *[(512, 3, 1)] * 2]
    assert found == expected
    assert pools_before == [3, 5, 9]


def test_a_batch_norm_follows_every_convolution_of_the_encoder() -> None:
    layers = [x for x in without_parameters(Encoder).modules() if isinstance(x, (nn.Conv2d, nn.BatchNorm2d))]
    assert [isinstance(layer, nn.BatchNorm2d) for layer in layers] == [False, True] * 31


@pytest.mark.parametrize(
    ("build", "norms"), [(TargetGenerator, 23), (SourceDecoder, 12), (PatchDiscriminator, 4)], ids=["G_t", "U", "D"]
)
def test_an_affine_instance_norm_follows_every_convolution_but_the_last(
    build: Callable[[], nn.Module], norms: int
) -> None:
    network = without_parameters(build)
    layers = [x for x in network.modules() if isinstance(x, (*CONVOLUTIONS, nn.GroupNorm))]
    assert [isinstance(layer, nn.GroupNorm) for layer in layers] == [False, True] * norms + [False]
    assert all(layer.affine for layer in layers if isinstance(layer, nn.GroupNorm))


def test_the_authors_discriminator_has_no_norm_behind_the_first_convolution() -> None:
    layers = list(without_parameters(lambda: PatchDiscriminator(norm_first=False)).children())
    assert [isinstance(layer, nn.GroupNorm) for layer in layers[:4]] == [False, False, False, True]
    assert sum(isinstance(layer, nn.GroupNorm) for layer in layers) == 3


@pytest.mark.parametrize(
    ("build", "std"),
    [
        (Encoder, 0.01),
        (PixelClassifier, 0.01),
        (TargetGenerator, 0.02),
        (SourceDecoder, 0.02),
        (PatchDiscriminator, 0.02),
    ],
)
def test_convolutions_start_normally_distributed_and_without_bias(build: Callable[..., nn.Module], std: float) -> None:
    network = build() if build is PixelClassifier else build(width=0.25)
    layers = convolutions_of(network)
    weights = torch.cat([layer.weight.detach().flatten() for layer in layers])
    assert weights.mean().item() == pytest.approx(0, abs=5 * std / math.sqrt(weights.numel()))
    assert weights.std().item() == pytest.approx(std, rel=0.05)
    assert all((layer.bias == 0).all() for layer in layers if layer.bias is not None)


@pytest.mark.parametrize(
    ("width", "channels"), [(1, 16), (0.5, 8), (0.25, 4), (0.2, 4), (1 / 32, 2), (1e-6, 2), (1.5, 24), (2, 32)]
)
def test_scaled_channels_are_even_and_at_least_two(width: float, channels: int) -> None:
    assert scaled(16, width) == channels


@pytest.mark.parametrize("width", [0, 0.0, -0.25])
@pytest.mark.parametrize("network", [Encoder, TargetGenerator, SourceDecoder, PatchDiscriminator, Segmenter])
def test_a_width_that_is_not_positive_is_refused_in_a_sentence(network: Callable[..., nn.Module], width: float) -> None:
    with pytest.raises(InputError, match=rf"the network width is {width}: give a positive number"):
        network(width=width)


# --- Shapes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [1 / 32, 1 / 16, 0.1, 0.25])
@pytest.mark.parametrize("channels", [1, 3])
def test_shapes_fit_together_for_any_width_and_number_of_image_channels(width: float, channels: int) -> None:
    image = draw_image(2, channels, 16, 32)
    encoder = Encoder(channels, width)
    latent = encoder(image)
    assert latent.shape == (2, encoder.out_channels, 2, 4)
    assert encoder.out_channels == scaled(512, width)
    assert SourceDecoder(encoder.out_channels, channels, width)(latent, image).shape == image.shape
    assert TargetGenerator(channels, width)(image).shape == image.shape


@pytest.mark.parametrize("classes", [2, 5, 7])
def test_the_pixel_classifier_has_a_logit_a_class_at_eight_times_the_resolution(classes: int) -> None:
    logits = PixelClassifier(6, classes)(torch.randn(2, 6, 3, 5))
    assert logits.shape == (2, classes, 24, 40)
    assert logits.min().item() < 0, "logits, not probabilities"


def test_the_pixel_classifier_upsamples_bilinearly_between_pixel_centers() -> None:
    classifier = PixelClassifier(1, 1)
    nn.init.ones_(classifier.classifier.weight)
    row = classifier(torch.tensor([[[[0.0, 8.0]]]]))[0, 0, 0].tolist()
    assert row == [0, 0, 0, 0, *(i + 0.5 for i in range(8)), 8, 8, 8, 8]


def test_the_encoder_sees_context_of_a_whole_slice() -> None:
    encoder = stirred(Encoder(1, WIDTH)).double()
    image = draw_image(1, 1, 256, 256).double().requires_grad_()
    (gradient,) = torch.autograd.grad(encoder(image)[0, :, 16, 16].sum(), image)
    rows = gradient[0, 0].abs().amax(1).nonzero()
    assert (rows.max() - rows.min()).item() > 200


@pytest.mark.parametrize("out_channels", [1, 2])
@pytest.mark.parametrize(("in_channels", "size"), [(1, 256), (5, 64), (3, 16), (1, 17)])
def test_a_discriminator_scores_patches_at_about_an_eighth_of_the_resolution(
    in_channels: int, size: int, out_channels: int
) -> None:
    side = size
    for stride in (2, 2, 2, 1, 1):
        side = (side + 2 * 2 - 4) // stride + 1
    scores = PatchDiscriminator(in_channels, out_channels, WIDTH)(draw_image(2, in_channels, size, size))
    assert scores.shape == (2, out_channels, side, side)
    assert size != 256 or side == 35


# --- What they compute -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("position", [(16, 16), (12, 20)])
def test_a_discriminator_judges_patches_of_70_by_70_pixels(position: tuple[int, int]) -> None:
    layers = [x for x in PatchDiscriminator(1, 1, WIDTH).children() if not isinstance(x, nn.GroupNorm)]
    network = nn.Sequential(*layers).double()  # an instance norm sees the whole image
    for layer in convolutions_of(network):
        nn.init.uniform_(layer.weight, 0.5, 1)  # nothing cancels
    image = draw_image(1, 1, 256, 256).double().requires_grad_()
    row, column = position
    (gradient,) = torch.autograd.grad(network(image)[0, 0, row, column], image)
    field = gradient[0, 0] != 0
    rows, columns = field.any(1).nonzero().flatten(), field.any(0).nonzero().flatten()
    assert len(rows) == int(rows[-1] - rows[0]) + 1 == 70
    assert len(columns) == int(columns[-1] - columns[0]) + 1 == 70
    assert field.sum() == 70 * 70


def test_a_discriminator_leaks_a_fifth_below_zero_and_has_no_activation_at_the_end() -> None:
    layers = list(PatchDiscriminator(1, 1, WIDTH).children())
    slopes = [layer.negative_slope for layer in layers if isinstance(layer, nn.LeakyReLU)]
    assert slopes == [0.2] * 4
    assert isinstance(layers[-1], nn.Conv2d)


def zero_last_convolution(network: nn.Module) -> None:
    last = convolutions_of(network)[-1]
    nn.init.zeros_(last.weight)
    assert last.bias is not None
    nn.init.zeros_(last.bias)


def test_the_target_generator_is_tanh_of_the_image_plus_what_it_learns() -> None:
    generator, image = stirred(TargetGenerator(1, WIDTH)), 3 * draw_image(2, 1, 16, 32)
    output = generator(image)
    assert output.abs().max().item() <= 1
    assert not torch.allclose(output, torch.tanh(image), atol=1e-2)
    zero_last_convolution(generator)
    assert torch.equal(generator(image), torch.tanh(image))


def test_classes_change_what_the_target_generator_learns_and_not_the_image_that_it_adds_to() -> None:
    generator, image = stirred(TargetGenerator(1, WIDTH, num_classes=3)), 3 * draw_image(2, 1, 16, 32)
    one, other = (torch.rand(2, 3, 16, 32).softmax(dim=1) for _ in range(2))
    assert not torch.allclose(generator(image, one), generator(image, other), atol=1e-3)
    zero_last_convolution(generator)
    assert torch.equal(generator(image, one), torch.tanh(image))


def test_the_source_decoder_is_tanh_of_the_image_that_the_encoder_saw_plus_what_it_learns() -> None:
    decoder = stirred(SourceDecoder(16, 1, WIDTH))
    image, latent = 3 * draw_image(2, 1, 16, 32), torch.randn(2, 16, 2, 4)
    output = decoder(latent, image)
    assert output.abs().max().item() <= 1
    assert not torch.allclose(output, torch.tanh(image), atol=1e-2)
    assert not torch.allclose(output, decoder(torch.randn(2, 16, 2, 4), image), atol=1e-3)
    zero_last_convolution(decoder)
    assert torch.equal(decoder(latent, image), torch.tanh(image))


@pytest.mark.parametrize(("in_channels", "out_channels", "front"), [(4, 4, 0), (4, 8, 2), (2, 6, 2), (4, 7, 1)])
def test_a_residual_block_pads_the_identity_with_zero_channels_on_both_sides(
    in_channels: int, out_channels: int, front: int
) -> None:
    block = ResidualBlock(in_channels, out_channels, (nn.BatchNorm2d(out_channels), nn.BatchNorm2d(out_channels)))
    for layer in convolutions_of(block):
        nn.init.zeros_(layer.weight)
    x = torch.rand(2, in_channels, 5, 6) + 0.1
    output = block.eval()(x)
    assert output.shape == (2, out_channels, 5, 6)
    assert torch.equal(output[:, front : front + in_channels], x)
    assert (output[:, :front] == 0).all()
    assert (output[:, front + in_channels :] == 0).all()
    assert (block(-x) == 0).all(), "a ReLU follows the sum"


@pytest.mark.parametrize(("dilation", "reach"), [(1, 2), (2, 4)])
def test_a_residual_block_adds_two_convolutions_of_its_dilation(dilation: int, reach: int) -> None:
    block = ResidualBlock(2, 2, (nn.BatchNorm2d(2), nn.BatchNorm2d(2)), dilation).eval()
    first, second = convolutions_of(block)
    for layer in (first, second):
        nn.init.uniform_(layer.weight, 0.1, 1)
    x = torch.rand(1, 2, 15, 15, requires_grad=True)
    output = block(x)
    hidden = functional.relu(
        functional.conv2d(x, first.weight, padding=dilation, dilation=dilation) / (1 + 1e-5) ** 0.5
    )
    branch = functional.conv2d(hidden, second.weight, padding=dilation, dilation=dilation) / (1 + 1e-5) ** 0.5
    torch.testing.assert_close(output, functional.relu(branch + x))
    (gradient,) = torch.autograd.grad(output[0, 0, 7, 7], x)
    rows = gradient[0].abs().amax((0, 2)).nonzero()
    assert (int(rows.min()), int(rows.max())) == (7 - reach, 7 + reach)


def test_a_residual_block_refuses_to_shrink() -> None:
    with pytest.raises(ValueError, match="cannot shrink from 8 to 4 channels"):
        ResidualBlock(8, 4, (nn.BatchNorm2d(4), nn.BatchNorm2d(4)))


# --- The segmenter ---------------------------------------------------------------------------------------------------

SIZES = [(1, 1), (1, 9), (7, 8), (8, 8), (13, 21), (16, 24), (33, 5)]


@pytest.fixture
def segmenter() -> Segmenter:
    return stirred(Segmenter(1, 3, WIDTH))


@pytest.mark.parametrize("size", SIZES)
def test_the_segmenter_takes_any_size_and_returns_one_tensor_of_logits(
    segmenter: Segmenter, size: tuple[int, int]
) -> None:
    logits = segmenter(draw_image(2, 1, *size))
    assert type(logits) is torch.Tensor
    assert logits.shape == (2, 3, *size)
    assert logits.isfinite().all()


@pytest.mark.parametrize("size", [(8, 8), (16, 24), (64, 8)])
def test_the_segmenter_is_c_of_e_where_the_size_is_a_multiple_of_eight(
    segmenter: Segmenter, size: tuple[int, int]
) -> None:
    image = draw_image(2, 1, *size)
    assert torch.equal(segmenter(image), segmenter.pixel_classifier(segmenter.encoder(image)))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 9), (13, 21), (16, 23)])
def test_the_segmenter_repeats_the_last_row_and_column_up_to_a_multiple_of_eight(
    segmenter: Segmenter, height: int, width: int
) -> None:
    image = draw_image(2, 1, height, width)
    rows = [min(i, height - 1) for i in range(8 * math.ceil(height / 8))]
    columns = [min(i, width - 1) for i in range(8 * math.ceil(width / 8))]
    whole = segmenter.pixel_classifier(segmenter.encoder(image[:, :, rows][:, :, :, columns]))
    assert torch.equal(segmenter(image), whole[:, :, :height, :width])


@pytest.mark.parametrize(("channels", "classes", "width"), [(1, 2, 1 / 32), (3, 6, 1 / 16), (2, 5, 0.25)])
def test_the_segmenter_takes_any_number_of_channels_and_classes(channels: int, classes: int, width: float) -> None:
    assert stirred(Segmenter(channels, classes, width))(draw_image(1, channels, 24, 16)).shape == (1, classes, 24, 16)


def test_the_segmenter_gives_every_slice_of_a_batch_what_it_gets_alone(segmenter: Segmenter) -> None:
    images = draw_image(3, 1, 16, 24)
    alone = torch.cat([segmenter(image.unsqueeze(0)) for image in images])
    torch.testing.assert_close(segmenter(images), alone)


def test_the_segmenter_under_torchscript_equals_the_eager_one_at_every_size(segmenter: Segmenter) -> None:
    scripted = torch.jit.script(segmenter)
    with torch.no_grad():
        for size in SIZES:
            image = draw_image(2, 1, *size)
            torch.testing.assert_close(scripted(image), segmenter(image))


def test_weights_of_another_network_are_an_error_also_for_those_who_would_accept_them() -> None:
    narrow, wide = Segmenter(1, 3, 0.0625), Segmenter(1, 3, 0.125)
    states: list[dict[str, Any]] = [{}, {"state_dict": {}}, wide.state_dict()]
    for state in states:
        with pytest.raises(RuntimeError):
            narrow.load_state_dict(state, strict=False)
