"""The kinds of job."""

from enum import StrEnum


class JobKind(StrEnum):
    """Why a worker is asked to do something. `replicate` and `control` measure existing commits.

    `draft` is a structural departure; `adopt` re-applies other experiments' steps to the parent; `ablate` takes one
    of the steps that led to it out; `tune` looks for a constant's best value. These three need no language model.
    """

    IMPROVE = "improve"
    DRAFT = "draft"
    ADOPT = "adopt"
    ABLATE = "ablate"
    TUNE = "tune"
    REPLICATE = "replicate"
    CONTROL = "control"

    @property
    def makes_experiment(self) -> bool:
        return self not in (JobKind.REPLICATE, JobKind.CONTROL)

    @property
    def is_assembled(self) -> bool:
        """Whether its code is put together from steps that exist, and nobody has to write any."""
        return self in (JobKind.ADOPT, JobKind.ABLATE)
