"""The protocol between the worker and a project's harness, version 1.

Each harness process inherits one descriptor, a SOCK_SEQPACKET socket, whose number is its last argument. A packet is
one JSON document of at most MAX_PACKET_BYTES. Further descriptors, in brackets below, come attached to the packet
that names them (SCM_RIGHTS).

    all        -> ready                                       after its imports
    prepare    <- begin [sources..., train, validation]       files of the contract, then two files to fill
               -> prepared
    trainer    <- begin [weights]                             build, warm up on random tokens
               -> start                    <- started [train] the clock runs from here ...
               -> progress, any number
               -> trained                                     ... to here: weights lie in `weights`
    host       <- begin [tokens, logits]                      shared memory: int64 rows x T, float32 rows x T x vocab
               <- load [weights]           -> loaded
               <- forward                  -> logits          for each batch
    scorer     <- begin [validation, tokens, logits]
               -> forward                  <- logits          relayed to and from the host
               -> scored | rejected
    all        -> failed                                      instead of anything above

Nothing a process says is believed beyond what stands here, and every number is bounded.
"""

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from shared.protocol import Message

HARNESS_PROTOCOL = 1
MAX_PACKET_BYTES = 65_536

Count = Annotated[int, Field(ge=0, le=2**53)]


class Ready(Message):
    kind: Literal["ready"] = "ready"
    protocol: int


class Failed(Message):
    """What went wrong, as a clause that a person understands, and the deepest frame of the edited file."""

    kind: Literal["failed"] = "failed"
    reason: str = Field(min_length=1, max_length=900)
    frame: str = Field(default="", max_length=1000)


class Prepared(Message):
    kind: Literal["prepared"] = "prepared"
    vocab_size: int = Field(ge=2, le=1 << 20)
    sequence_length: int = Field(ge=2, le=1 << 20)


class Start(Message):
    kind: Literal["start"] = "start"


class TrainingProgress(Message):
    """`loss` is the last one logged; `tokens` were drawn since the start."""

    kind: Literal["progress"] = "progress"
    step: Count
    loss: float
    tokens: Count


class Trained(Message):
    """`size` bytes of safetensors lie in the weights' memory."""

    kind: Literal["trained"] = "trained"
    size: int = Field(ge=1)
    tokens: Count


class Loaded(Message):
    kind: Literal["loaded"] = "loaded"
    parameters: Count


class Forward(Message):
    """The first `rows` rows of the tokens' memory are to be answered."""

    kind: Literal["forward"] = "forward"
    rows: int = Field(ge=1)


class Logits(Message):
    kind: Literal["logits"] = "logits"


class Scored(Message):
    kind: Literal["scored"] = "scored"
    metric: float
    scored_bytes: int = Field(ge=1, le=2**53)


class Rejected(Message):
    """A check of the model's answers failed."""

    kind: Literal["rejected"] = "rejected"
    reason: str = Field(min_length=1, max_length=900)


Received = (
    Ready | Failed | Prepared | Start | TrainingProgress | Trained | Loaded | Forward | Logits | Scored | Rejected
)
RECEIVED: TypeAdapter[Received] = TypeAdapter(Annotated[Received, Field(discriminator="kind")])


class BeginPrepare(Message):
    kind: Literal["begin"] = "begin"
    sources: list[str]
    settings: dict[str, int | float | str]


class BeginTrainer(Message):
    kind: Literal["begin"] = "begin"
    editable: list[str]
    device: str
    seed: int
    vocab_size: int
    sequence_length: int
    training_seconds: float
    handover_seconds: float
    weights_bytes: int


class Started(Message):
    kind: Literal["started"] = "started"


class BeginHost(Message):
    kind: Literal["begin"] = "begin"
    editable: list[str]
    device: str
    seed: int
    vocab_size: int
    sequence_length: int
    rows: int


class Load(Message):
    kind: Literal["load"] = "load"
    size: int


class BeginScorer(Message):
    kind: Literal["begin"] = "begin"
    vocab_size: int
    sequence_length: int
    rows: int
    settings: dict[str, int | float | str]


Sent = BeginPrepare | BeginTrainer | Started | BeginHost | Load | Forward | BeginScorer | Logits
