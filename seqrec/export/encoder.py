"""The encoder of a method as a module of its own, and the formats that it is written in."""

import io
import logging
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqrec.methods.base import Method

INPUT, OUTPUT = "ids", "query"
Run = Callable[[np.ndarray], np.ndarray]  # ids [B, T] int64 -> queries [B, D] float32


class QueryEncoder(nn.Module):
    """Maps item ids [B, T], oldest first and padded with 0 on the left, to queries [B, D]; reads the newest `max_len` ids.

    Inside, every row has `max_len` slots, so that any length can be exported.
    """

    def __init__(self, method: Method):
        super().__init__()
        self.method = method.cpu().eval()

    def forward(self, ids: Tensor) -> Tensor:
        """Return the state after the newest item, whose products with the item matrix are the scores."""
        ids = F.pad(ids, (self.method.max_len, 0))[:, -self.method.max_len :]
        return self.method.encode(ids, newest=True)[:, -1]


def program(encoder: QueryEncoder) -> torch.export.ExportedProgram:
    """Return the encoder as a graph for any batch and length."""
    sizes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length")}
    example = torch.ones(3, 5, dtype=torch.int64)
    with torch.no_grad():
        return torch.export.export(encoder, (example,), dynamic_shapes={INPUT: sizes}, strict=False)


def as_torch(encoder: QueryEncoder) -> tuple[bytes, Run]:
    """Return a file for `torch.export.load`, and what it computes."""
    stream = io.BytesIO()
    torch.export.save(program(encoder), stream)
    loaded = torch.export.load(io.BytesIO(stream.getvalue())).module()
    return stream.getvalue(), lambda ids: loaded(torch.from_numpy(ids)).detach().numpy()


def as_onnx(encoder: QueryEncoder) -> tuple[bytes, Run]:
    """Return an ONNX file, and what onnxruntime computes with it."""
    import onnxruntime

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it misses torchvision, which is not needed
    made = torch.onnx.export(program(encoder), dynamo=True, output_names=[OUTPUT], verbose=False)
    content = made.model_proto.SerializeToString()
    session = onnxruntime.InferenceSession(content)
    return content, lambda ids: session.run([OUTPUT], {INPUT: ids})[0]


def as_safetensors(encoder: QueryEncoder) -> tuple[bytes, Run]:
    """Return the weights of the method, and what the method computes with them; only seqrec can run them."""
    from safetensors.torch import save

    weights = {name: value.contiguous().clone() for name, value in encoder.method.state_dict().items()}

    @torch.no_grad()
    def run(ids: np.ndarray) -> np.ndarray:
        return encoder(torch.from_numpy(ids)).numpy()

    return save(weights), run


# format: the name of the file, and how it is made
FORMATS: dict[str, tuple[str, Callable[[QueryEncoder], tuple[bytes, Run]]]] = {
    "onnx": ("encoder.onnx", as_onnx),
    "torch": ("encoder.pt2", as_torch),
    "safetensors": ("weights.safetensors", as_safetensors),
}
