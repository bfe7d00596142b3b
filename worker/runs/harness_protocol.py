"""The protocol between the worker and a project's harness, version 4.

Each harness process inherits one descriptor, a SOCK_SEQPACKET socket, whose number is its last argument. A packet is
one JSON document of at most MAX_PACKET_BYTES. Further descriptors, in brackets below, come attached to the packet
that names them (SCM_RIGHTS).

    all        -> ready                                       after its imports
    prepare    <- begin [train, validation, sources...]       two files to fill, then files of the contract
               -> prepared
    substitute <- begin [train, validation, train, validation]   what prepare made, and two files of the same sizes
               -> substituted                                to fill for this run alone, in symbols of its own
    trainer    <- begin [handover]                            build, warm up without the data
               -> start                    <- started [train] the clock runs from here ...
               -> progress, any number
               -> trained                                     ... to here: the result lies in `handover`
               <- begin [handover, compiled]                  the same, with what untouched code compiled before
               -> start                    <- keep [compiled] instead of training: a file to put it into
               -> kept
    host       <- begin [request, answer]                     memory shared with the scorer
               -> imported                                    the edited file, without the result in reach
               <- load [handover]                             the result, once the scorer has asked
               -> loaded
               <- ask                      -> answered        for each request
    scorer     <- begin [validation, request, answer]
               -> ask                      <- answered        relayed to and from the host
               -> renew                    <- renewed [request, answer]   another host, which knows of no request yet
               -> scored | rejected                       perhaps before the answer to its last question
    all        -> failed                                      instead of anything above

A run with a key to sealed data goes through host and scorer once more, with the contract's `holdout` as the scorer.

So a scorer that measures time has its watch running before the edited file can see what it is to work on.

A project may `substitute` the symbols of its data for each run, before the edited file sees them. The worker knows
three further roles. The *trainer* makes a result within the budget (weights, a compressed text, a table), the
*host* answers questions with it, the *scorer* asks and judges. Questions and their format are the project's own:
`prepare` states the sizes of the two memories, and `facts` for all processes of a run.

The worker trusts no message beyond these forms, and every number is bounded.
"""

from typing import Annotated, Literal

from pydantic import Field, StrictBool, StrictFloat, StrictInt, StringConstraints, TypeAdapter

from shared.contract import BudgetClock
from shared.protocol import Count, Message, Number

HARNESS_PROTOCOL = 4
MAX_PACKET_BYTES = 65_536
MAX_SHARED_BYTES = 1 << 32

Name = Annotated[str, StringConstraints(min_length=1, max_length=80)]
Text = Annotated[str, StringConstraints(max_length=1000)]
Facts = Annotated[dict[Name, StrictInt | StrictFloat | Text], Field(max_length=32)]


class Ready(Message):
    kind: Literal["ready"] = "ready"
    protocol: StrictInt


class Failed(Message):
    """A failure: its reason as a clause for people, and the deepest frame of the edited file."""

    kind: Literal["failed"] = "failed"
    reason: str = Field(min_length=1, max_length=900)
    frame: str = Field(default="", max_length=1000)


class DataPrepared(Message):
    """Needs of the project's runs: sizes of the memories between scorer and host, and the number of hosts."""

    kind: Literal["prepared"] = "prepared"
    facts: Facts = Field(default={})
    request_bytes: StrictInt = Field(ge=1, le=MAX_SHARED_BYTES)
    answer_bytes: StrictInt = Field(ge=1, le=MAX_SHARED_BYTES)
    hosts: StrictInt = Field(default=1, ge=1, le=3)


class Substituted(Message):
    kind: Literal["substituted"] = "substituted"


class Start(Message):
    kind: Literal["start"] = "start"


class Kept(Message):
    """`size` bytes of compiled code are in the file; 0 if there was no room."""

    kind: Literal["kept"] = "kept"
    size: Count


class TrainingProgress(Message):
    """The last logged `loss`, `tokens` drawn since the start, and the device's memory if it has its own."""

    kind: Literal["progress"] = "progress"
    step: Count
    loss: Number
    tokens: Count = 0
    device_memory_mib: Count = 0


class Trained(Message):
    """`size` bytes of the result are in the memory `handover`."""

    kind: Literal["trained"] = "trained"
    size: Count
    tokens: Count = 0
    device_memory_mib: Count = 0


class Imported(Message):
    kind: Literal["imported"] = "imported"


class Loaded(Message):
    kind: Literal["loaded"] = "loaded"
    parameters: Count = 0


class Ask(Message):
    """A request is in its memory. `count` has the harness's own meaning: rows or bytes."""

    kind: Literal["ask"] = "ask"
    count: Count


class Answered(Message):
    """The answer is in its memory. `count` has the harness's own meaning, and the host may lie about it."""

    kind: Literal["answered"] = "answered"
    count: Count = 0


class Renew(Message):
    kind: Literal["renew"] = "renew"


class Scored(Message):
    kind: Literal["scored"] = "scored"
    metric: StrictFloat
    scored_bytes: StrictInt = Field(ge=1, le=2**53)


class ScoreRejected(Message):
    """A check of the host's answers failed."""

    kind: Literal["rejected"] = "rejected"
    reason: str = Field(min_length=1, max_length=900)


Received = (
    Ready
    | Failed
    | DataPrepared
    | Substituted
    | Start
    | Kept
    | TrainingProgress
    | Trained
    | Imported
    | Loaded
    | Ask
    | Answered
    | Renew
    | Scored
    | ScoreRejected
)
_RECEIVED: TypeAdapter[Received] = TypeAdapter(Annotated[Received, Field(discriminator="kind")])


def read_message(packet: bytes) -> Received:
    """A message of a harness, whose numbers may be written as in any earlier release (`8192.0`): a project's harness
    can never be changed. Raises ValidationError."""
    return _RECEIVED.validate_json(packet, strict=False)


Settings = dict[str, StrictInt | StrictFloat | str]


class BeginPrepare(Message):
    kind: Literal["begin"] = "begin"
    sources: list[str]
    settings: Settings


class BeginSubstitute(Message):
    """`draw`, 64 hexadecimal digits, is what the substitution is drawn from."""

    kind: Literal["begin"] = "begin"
    facts: Facts
    settings: Settings
    draw: str


class BeginHost(Message):
    """Fields of the roles that run the edited file."""

    kind: Literal["begin"] = "begin"
    editable: list[str]
    device: str
    seed: StrictInt
    facts: Facts
    settings: Settings


class BeginTrainer(BeginHost):
    """`clock` counts `training_seconds` and `handover_seconds`."""

    clock: BudgetClock
    training_seconds: StrictFloat
    handover_seconds: StrictFloat
    handover_bytes: StrictInt


class Started(Message):
    """`training_seconds` are left of the budget."""

    kind: Literal["started"] = "started"
    training_seconds: StrictFloat


class Keep(Message):
    """Instead of training, write the compiled code into the attached file."""

    kind: Literal["keep"] = "keep"


class Load(Message):
    """The result has `size` bytes."""

    kind: Literal["load"] = "load"
    size: StrictInt


class BeginScorer(Message):
    """The result has `size` bytes, the edited files together `editable_bytes` in UTF-8.

    `draw`, 64 hexadecimal digits, is what the scored part of the data is to be drawn from: the sealed part if `sealed`.
    """

    kind: Literal["begin"] = "begin"
    device: str
    facts: Facts
    settings: Settings
    size: StrictInt
    editable_bytes: StrictInt
    draw: str
    sealed: StrictBool


class Renewed(Message):
    kind: Literal["renewed"] = "renewed"


Sent = (
    BeginPrepare
    | BeginSubstitute
    | BeginTrainer
    | Started
    | Keep
    | BeginHost
    | Load
    | BeginScorer
    | Ask
    | Answered
    | Renewed
)
