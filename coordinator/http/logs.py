"""The log on stderr: lines for people, or a JSON document a line. Times are UTC; lines of a request carry its id."""

import logging
import sys
from typing import Any, Literal

import structlog
from structlog.typing import EventDict, Processor


def configure_logs(log_format: Literal["text", "json"]) -> None:
    """Set up the log of this process: ours, and what libraries write through `logging`."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    # The default formatter writes all local variables, secrets among them, and takes a second for each error.
    render: Processor = structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(), repr_native_str=True, exception_formatter=structlog.dev.plain_traceback
    )
    if log_format == "json":
        shared += [structlog.processors.format_exc_info]
        render = structlog.processors.JSONRenderer(sort_keys=True)
    structlog.configure([*shared, render], logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    handler = logging.StreamHandler(sys.stderr)
    meta = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, _add_logger], processors=[meta, render], keep_exc_info=log_format == "text"
        )
    )
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.captureWarnings(True)


def _add_logger(_logger: Any, _method: str, event: EventDict) -> EventDict:
    record = event.get("_record")
    return {**event, "logger": record.name} if record else event
