"""JSON lines on standard error: a static event name, then fields."""

from __future__ import annotations

import datetime as dt
import logging
import sys

import msgspec

_PLAIN = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = {k: v for k, v in vars(record).items() if k not in _PLAIN}
        moment = dt.datetime.fromtimestamp(record.created, dt.UTC)
        line = {"at": moment, "level": record.levelname, "event": record.getMessage(), **fields}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line, enc_hook=str).decode()


def configure(level: str = "info") -> None:
    """Send this package's log to standard error as JSON, once."""
    logger = logging.getLogger("artwork_bandit")
    if not logger.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(JsonFormatter())
        logger.addHandler(handler)
        logger.setLevel(level.upper())
        logger.propagate = False
