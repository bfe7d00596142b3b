"""Reads from what a coding tool says why it cannot work as it is set up, whatever it is asked.

Only an answer to next to nothing is read so: among words about real work these may mean something else.
"""

import re

CANNOT_START = (126, 127)
"""Exit statuses of a shell whose command cannot be executed, or is not there."""

UNKNOWN_OPTION = "it does not know an option that it is started with: update it, or give your own --agent-command"
NO_CREDIT = "no credit is left with its provider: add some there, or choose another tool"
NO_MODEL = (
    "its provider does not have this model, at this address and for this account: --model NAME, or leave that out"
)
LOG_IN = "log in to it, or set its key, and grant the tool what holds them (--agent-path, `agent_environment`)"
NOT_GRANTED = "it cannot be started in its sandbox, where only what is granted can be seen: --agent-path PATH"

PASSING, SILENT = "its provider is out of order", "it says nothing"

_STATUS = r"\b(?:error|status|code|http|api|statuscode)\b\W{{0,12}}{0}\b|\b{0}\b\W{{0,3}}(?:{1})"
_KINDS = (
    (
        UNKNOWN_OPTION,
        r"unknown (?:option|argument|flag|command)s?\b|unrecogni[sz]ed (?:option|argument|subcommand)|no such option"
        r"|unexpected argument|invalid (?:value|choice) for|error: the following arguments|positionals:.*options:",
    ),
    (
        NO_CREDIT,
        r"payment required|credit balance|insufficient[ _](?:credits?|funds|balance|quota)|requires more credits"
        r"|out of credits|credits? (?:is|are) (?:depleted|used up)|^(?!.*daily quota).*check your plan and billing"
        r"|billing (?:hard limit|account)",
        _STATUS.format(402, "payment|insufficient"),
    ),
    (
        NO_MODEL,
        r"model[\w`'\"/.:() -]{0,80}(?:not (?:found|exist|supported|available)|does(?: not|n't) exist|unknown|invalid)"
        r"|(?:unknown|invalid|unsupported|no such|selected) model|model_?not_?found|not_?found_?error"
        r"|llm provider not provided",
        _STATUS.format(404, "not found"),
        _STATUS.format(422, "unprocessable"),
    ),
    (
        LOG_IN,
        r"unauthori[sz]ed|unauthenticated|authentication|not (?:logged|signed) in|please (?:log|sign) in"
        r"|log ?in (?:required|again)|(?:invalid|incorrect|missing|expired|revoked) (?:api.?key|token|credential)"
        r"|api.?key (?:is |was )?(?:not (?:valid|found|set)|missing|invalid|required)|no (?:api.?key|credentials)",
        _STATUS.format(401, "unauthori"),
        _STATUS.format(403, "forbidden"),
    ),
    (
        PASSING,
        r"\b5\d\d\b.{0,40}(?:error|overload|unavailable|gateway)|overloaded|server error|high demand|\btransient\b"
        r"|temporar(?:y|ily) (?:error|unavail|fail)",
    ),
)
_RETRIED = re.compile(r"websocket|reconnecting|retrying")  # by which the tool may have got through
_PATTERNS = [(advice, re.compile("|".join(patterns))) for advice, *patterns in _KINDS]


def find_refusal(said: str, exit_status: int | None) -> str | None:
    """Advice about a tool that says this to a small question; None if it may work."""
    if exit_status in CANNOT_START or "bwrap: execvp" in said:
        return NOT_GRANTED
    words = " ".join(" ".join(line.split()) for line in said.lower().splitlines() if not _RETRIED.search(line)).strip()
    return next((advice for advice, pattern in _PATTERNS if pattern.search(words)), None if words else SILENT)
