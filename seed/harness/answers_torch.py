"""`Answers` by torch, on the device where the model is hosted; see answers.py."""

import numpy
import torch

from harness.channel import Rejected


class TorchAnswers:
    """Sums are float32 on the device; the scorer adds rows up in float64."""

    def __init__(self, logits: numpy.ndarray, device: str) -> None:
        values = torch.from_numpy(logits).to(device, copy=True)
        if not bool(torch.isfinite(values).all()):
            raise Rejected("the model returned a logit that is not a finite number")
        self.log_probabilities = values.log_softmax(dim=-1)

    def of_targets(self, targets: numpy.ndarray) -> numpy.ndarray:
        indices = torch.from_numpy(targets).to(self.log_probabilities.device)[..., None]
        return self.log_probabilities.gather(-1, indices)[..., 0].cpu().numpy()

    def sample(self, row: int, first: int, forbidden: int) -> numpy.ndarray:
        values = self.log_probabilities[row, first:]
        noisy = values - torch.empty_like(values).exponential_().log()  # the Gumbel-max trick
        noisy[0, forbidden] = -torch.inf
        return noisy.argmax(dim=-1).cpu().numpy()
