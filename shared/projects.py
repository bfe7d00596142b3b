"""Projects as they cross the wire."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StrictBool, StrictFloat, StringConstraints

from shared.contract import JobMix
from shared.experiments import JobKind
from shared.protocol import (
    CLEAN,
    Count,
    FilePath,
    LongText,
    Message,
    Number,
    Sha,
    ShortText,
    Slug,
    SourceText,
    Text,
    Timestamp,
)

Weight = Annotated[StrictFloat, Field(ge=0, le=1_000)]
Notice = Annotated[str, StringConstraints(strip_whitespace=True, max_length=1_000), CLEAN]
Members = Annotated[list[Slug], Field(max_length=500)]


class ProjectMode(StrEnum):
    """The jobs that a project gives: all; measurements of commits that wait to be verified, and no experiments; none;
    none for good, and it is shown among past projects. Results of jobs that were given before are accepted in each."""

    RUNNING = "running"
    DRAINING = "draining"
    PAUSED = "paused"
    ARCHIVED = "archived"


class ProjectJoining(StrEnum):
    """Whose workers get jobs of a project: everybody's, those of accounts that a maintainer let in, or of `members`."""

    EVERYBODY = "everybody"
    APPROVED = "approved"
    MEMBERS = "members"


class DataLicence(StrEnum):
    """Licences under which a project's data may be published, by their SPDX names."""

    UNSTATED = ""
    CC0 = "CC0-1.0"
    CC_BY = "CC-BY-4.0"
    CC_BY_SA = "CC-BY-SA-4.0"
    CC_BY_NC = "CC-BY-NC-4.0"
    ODBL = "ODbL-1.0"
    ODC_BY = "ODC-By-1.0"
    PDDL = "PDDL-1.0"


class ProjectSettings(Message):
    """The part of a project that maintainers change. `weight` is its share of the fleet relative to other projects;
    with 0 it gets only workers that ask for it. `jobs` is the job mix, at first the contract's. Without a
    `data_licence` no snapshot is made."""

    title: ShortText
    notice: Notice = ""
    mode: ProjectMode = ProjectMode.RUNNING
    weight: Weight = 1.0
    joining: ProjectJoining = ProjectJoining.EVERYBODY
    members: Members = Field(default=[])
    data_licence: DataLicence = DataLicence.UNSTATED
    jobs: JobMix


class ProjectVersion(ProjectSettings):
    """A version of a project's settings: whose, why, and since when. Version 0 is the contract's."""

    version: Count
    by: Text
    reason: Text
    at: Timestamp


class SettingChange(Message):
    """A setting's value before and after a change, as text."""

    name: Text
    before: Text
    after: Text


class SettingsPreview(Message):
    """The changes that settings would make on top of `version`, and their consequences in sentences."""

    version: Count
    changes: list[SettingChange]
    consequences: list[Text]


class ProjectView(Message):
    """One research question. `contract` is its `swarm.toml`. `self_scored`: nothing checks the stated metric. `title`,
    `notice` and `mode` are settings, which maintainers change."""

    name: Slug
    title: Text
    question: Text
    contract: Text
    contract_version: Count
    root_sha: Sha
    self_scored: StrictBool = False
    notice: Text = ""
    mode: ProjectMode = ProjectMode.RUNNING
    created_at: Timestamp


class CommitFiles(Message):
    sha: Sha
    parent_sha: Sha | None
    files: dict[FilePath, SourceText]


class KindShareView(Message):
    """A kind's share of a project's experiments, and what it follows from.

    `gain` is what they added to verified commits, in the metric's unit, positive where it is better; `gpu_seconds` is
    the device time that they took.
    """

    kind: JobKind
    share: Number
    gain: Number
    gpu_seconds: Number
    experiments: Count


class Interval(Message):
    """A value with its 95 % interval."""

    value: Number
    low: Number
    high: Number


class ArmView(Message):
    """Jobs whose agents read findings, or whose did not. None: too few to say.

    Of the `jobs` drawn, `proposed` came to a proposal; the others are being drafted, expired or were given back.
    `duplicates` is the share of the jobs that `proposed` in which a proposal was refused because it, or much like it,
    was tried before; `failed` the share of the `runs` that crashed, timed out or were invalid; `effect` the mean effect
    of the `measured` experiments, in the metric's unit. A volunteer weighs at most as much as eight jobs.
    """

    with_findings: StrictBool
    jobs: Count
    proposed: Count
    duplicates: Interval | None
    runs: Count
    failed: Interval | None
    measured: Count
    effect: Interval | None


class FindingsValue(Message):
    """The worth of findings, from a project's newest jobs, at most `newest_jobs`: agents of `share_without` of them,
    drawn at random, read no findings of others."""

    newest_jobs: Count
    share_without: Number
    arms: list[ArmView]


class BranchState(StrEnum):
    """A paused branch gets no jobs until a volunteer chooses it, or a late result of it is a gain; if a maintainer
    paused it, until a maintainer resumes it. A proposed one waits for approval and gets none. A deleted one is in no
    list, and its name is free."""

    ACTIVE = "active"
    PAUSED = "paused"
    PROPOSED = "proposed"
    DELETED = "deleted"


class BranchSort(StrEnum):
    """Orders of a list of branches: by when they began, by their experiments, or by those since the last gain."""

    NEWEST = "newest"
    EXPERIMENTS = "experiments"
    WITHOUT_GAIN = "without_gain"


class ProjectSort(StrEnum):
    """The order of a list of projects: by when they began."""

    NEWEST = "newest"


class BranchMoveKind(StrEnum):
    BORN = "born"
    MOVED = "moved"
    PAUSED = "paused"
    RESUMED = "resumed"
    PROPOSED = "proposed"
    APPROVED = "approved"
    RENAMED = "renamed"
    SHARED = "shared"  # it got another minimum share
    DELETED = "deleted"
    RESTORED = "restored"  # its deletion was undone


class BranchView(Message):
    """A research direction with a name. `experiments_without_gain` counts since its last gain.

    `share` is the minimum share of the project's jobs that a maintainer gave it; None: the contract's. It `is_locked`
    while a maintainer's pause holds.
    """

    id: Count
    project: Slug
    name: Text
    theme: Text
    head_sha: Sha
    state: BranchState
    experiments_without_gain: Count
    experiments: Count
    share: Number | None = None
    is_locked: StrictBool = False
    created_at: Timestamp


class BranchRequest(Message):
    """A new branch, from `from_sha` or the project's root."""

    name: Slug
    theme: LongText
    from_sha: Sha | None = None


class BranchMoveView(Message):
    """An entry of a branch's log, with its reason. `from_sha` is None where the branch was born."""

    kind: BranchMoveKind
    from_sha: Sha | None
    to_sha: Sha
    by: Text
    why: Text
    at: Timestamp
