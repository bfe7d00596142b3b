"""`Answers` by torch, on the device where the model is hosted; see answers.py."""

import numpy
import torch

from harness.answers import NOT_FINITE
from harness.channel import Rejected


class TorchAnswers:
    """Sums are float32 on the device; the scorer adds rows up in float64."""

    def __init__(self, logits: numpy.ndarray, device: str) -> None:
        values = torch.from_numpy(logits).to(device, copy=True)
        if not bool(torch.isfinite(values).all()):
            raise Rejected(NOT_FINITE)
        self._log_probabilities = values.log_softmax(dim=-1)

    def of_targets(self, targets: numpy.ndarray) -> numpy.ndarray:
        indices = torch.from_numpy(targets).to(self._log_probabilities.device)[..., None]
        found = self._log_probabilities.gather(-1, indices)[..., 0].cpu().numpy()
        if not numpy.isfinite(found).all():
            raise Rejected(NOT_FINITE)
        return found
