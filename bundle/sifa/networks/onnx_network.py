"""A network that ONNX Runtime computes, in the place of PyTorch; and its export."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

from sifa.utils.errors import UsageError

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
TALKATIVE = ("torch.onnx", "onnxscript", "onnx_ir")  # log every step of an export
OPSET = 20
AXES = {0: "batch", 2: "height", 3: "width"}  # of input and output, which are free


def require_onnx() -> None:
    """Refuses ONNX where a package for it is missing.

    Raises:
        UsageError: when one of `PACKAGES` is not installed.
    """
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise UsageError(f"ONNX needs {' and '.join(missing)}: run pip install {' '.join(missing)}.")


def to_onnx(network: nn.Module, in_channels: int) -> Any:
    """Returns a network as an ONNX model for any batch, height and width: input `image`, output `pred`.

    `torch.export` traces the network's padding to multiples of 8 symbolically, so the model does its own padding. The
    sizes of the example are not multiples of 8, so that the export does not specialize on multiples.

    Args:
        network: maps images (B, in_channels, H, W) to (B, classes, H, W), in evaluation mode, on the CPU.
        in_channels: of the images.
    """
    dims = {axis: torch.export.Dim(name) for axis, name in AXES.items()}
    for library in TALKATIVE:
        logging.getLogger(library).setLevel(logging.ERROR)
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings(), torch.inference_mode(False):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            network,
            (torch.zeros(2, in_channels, 50, 70),),
            dynamo=True,
            opset_version=OPSET,
            input_names=["image"],
            output_names=["pred"],
            dynamic_shapes={"image": dims},
        )
    assert program is not None
    model = program.model_proto
    for place in (*model.graph.input, *model.graph.output):
        for axis, name in AXES.items():
            place.type.tensor_type.shape.dim[axis].dim_param = name
    return model


class OnnxNetwork(nn.Module):
    """Computes a network by ONNX Runtime on the CPU, in float32, with as many threads as PyTorch would take.

    Args:
        network: see `to_onnx`.
        in_channels: of the images.

    Raises:
        UsageError: when a package is missing.
    """

    def __init__(self, network: nn.Module, in_channels: int) -> None:
        super().__init__()
        require_onnx()
        from onnxruntime import InferenceSession, SessionOptions  # an optional package

        options = SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        model = to_onnx(network, in_channels).SerializeToString()
        self.session = InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Maps images (B, in_channels, H, W) to what the network gives, (B, classes, H, W), float32."""
        contiguous = image.to(torch.float32).contiguous().numpy(force=True)
        return torch.from_numpy(self.session.run(["pred"], {"image": contiguous})[0])
