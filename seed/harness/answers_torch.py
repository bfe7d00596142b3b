"""`Answers` by torch, on the device where the model is hosted; see answers.py."""

import numpy
import torch

from harness.answers import NOT_FINITE
from harness.channel import Rejected


class TorchAnswers:
    """Sums are float32 on the device; the scorer adds rows up in float64."""

    def __init__(self, logits: numpy.ndarray, device: str) -> None:
        self._logits = torch.from_numpy(logits).to(device, copy=True)

    def of_targets(self, targets: numpy.ndarray) -> numpy.ndarray:
        if not bool(torch.isfinite(self._logits).all()):
            raise Rejected(NOT_FINITE)
        indices = torch.from_numpy(targets).to(self._logits.device)[..., None]
        found = self._logits.log_softmax(dim=-1).gather(-1, indices)[..., 0].cpu().numpy()
        if not numpy.isfinite(found).all():
            raise Rejected(NOT_FINITE)
        return found
