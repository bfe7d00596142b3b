"""Names of the environment's settings. Coordinator and worker may share an environment, so each knows the other's."""

import re
from collections.abc import Iterable
from difflib import get_close_matches

PREFIX = "SWARM_"

COORDINATOR_NAMES = frozenset({
    "SWARM_ACCESS_LOG", "SWARM_CORS_ORIGINS",
    "SWARM_DATABASE_URL", "SWARM_EMBEDDINGS_KEY_FILE", "SWARM_EMBEDDINGS_MODEL",
    "SWARM_EMBEDDINGS_NEAR", "SWARM_EMBEDDINGS_URL", "SWARM_EPOCH_CHECK_SECONDS", "SWARM_EVENT_POLL_SECONDS",
    "SWARM_HOST", "SWARM_JOINING", "SWARM_LISTENERS_PER_ADDRESS", "SWARM_LOG_FORMAT", "SWARM_MAX_BODY_BYTES",
    "SWARM_MAX_BODY_SECONDS",
    "SWARM_MEANING_CHECK_SECONDS",
    "SWARM_METRICS_TOKEN_FILE", "SWARM_OLDEST_WORKER", "SWARM_PG_BIN", "SWARM_PORT", "SWARM_PROGRESS_COUNT_SECONDS",
    "SWARM_PUBLIC_READING",
    "SWARM_MAIL_FROM", "SWARM_MAIL_TO", "SWARM_SMTP_URL", "SWARM_WEBHOOKS", "SWARM_WEBHOOK_SECRET_FILE",
    "SWARM_PUBLIC_URL", "SWARM_SIGN_UPS_PER_HOUR", "SWARM_TRUSTED_PROXIES",
})  # fmt: skip

WORKER_NAMES = frozenset({
    "SWARM_AGENT", "SWARM_AGENT_COMMAND", "SWARM_AGENT_ENVIRONMENT", "SWARM_AGENT_PATHS", "SWARM_AGENT_SECONDS",
    "SWARM_ALONE_AFTER_SECONDS", "SWARM_API_KEY", "SWARM_API_KEY_FILE", "SWARM_BASE_URL", "SWARM_BRANCH",
    "SWARM_COORDINATOR_URL", "SWARM_CORES", "SWARM_COST_PER_DAY", "SWARM_COST_PER_EXPERIMENT", "SWARM_DATA_DIR",
    "SWARM_DATA_MIRROR", "SWARM_DEVICE", "SWARM_INPUT_PRICE", "SWARM_LONGEST_WAIT_SECONDS", "SWARM_MAX_CELSIUS",
    "SWARM_MAX_OUTPUT_TOKENS", "SWARM_MAX_WATTS", "SWARM_MODEL", "SWARM_NAME",
    "SWARM_NICE", "SWARM_NOTES", "SWARM_ON_BATTERY", "SWARM_OUTPUT_PRICE", "SWARM_PACKAGE_INDEX", "SWARM_PROJECT",
    "SWARM_REQUEST_SECONDS", "SWARM_SANDBOX", "SWARM_SCHEDULE", "SWARM_SHORTEST_WAIT_SECONDS", "SWARM_TOKEN",
    "SWARM_TOKENS_PER_DAY",
    "SWARM_TOKENS_PER_EXPERIMENT", "SWARM_TOKEN_FILE", "SWARM_WHEN_IDLE",
})  # fmt: skip

TEST_NAMES = frozenset({"SWARM_CHROMIUM", "SWARM_TEST_CONTAINER"})
"""Settings of this repository's tests."""

KNOWN_NAMES = COORDINATOR_NAMES | WORKER_NAMES | TEST_NAMES

_SERVICE = re.compile(r"(SWARM(?:_\w+)?)_SERVICE_HOST")


def find_unknown(names: Iterable[str], own: frozenset[str]) -> list[tuple[str, str | None]]:
    """Names of an environment that begin as ours and are none, each with the name that was probably meant: one of the
    process's `own`, or else another.

    Names that Kubernetes makes for a service called `swarm` or `swarm-...` count as known.
    """
    ours = {name for name in names if name.upper().startswith(PREFIX)}
    services = [found[1] for name in ours if (found := _SERVICE.fullmatch(name))]
    made = tuple(f"{service}_{part}" for service in services for part in ("SERVICE_", "PORT_"))
    whole = {f"{service}_PORT" for service in services}
    unknown = sorted(name for name in ours - whole if not name.startswith(made) and name.upper() not in KNOWN_NAMES)
    return [
        (name, _find_similar(name, own) or _find_similar(name, COORDINATOR_NAMES | WORKER_NAMES)) for name in unknown
    ]


def describe_unknown(names: Iterable[str], own: frozenset[str]) -> str:
    """A clause about the first of those names; empty if there is none."""
    found = (
        f"{name} is no setting{f'; did you mean {meant}?' if meant else ''}" for name, meant in find_unknown(names, own)
    )
    return next(found, "")


def _find_similar(name: str, known: frozenset[str]) -> str | None:
    parts = sorted(other.removeprefix(PREFIX) for other in known)
    return next((PREFIX + found for found in get_close_matches(name.upper().removeprefix(PREFIX), parts, 1)), None)
