"""Prometheus metrics of one server; with several workers, of all of them.

Counts are kept where they happen and added up over workers at the scrape (`prometheus-client`'s
multiprocess files, in a folder the server makes). What is the same for all workers of a host, or
is a worker's own state, is asked at the scrape.
"""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterable

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Histogram,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from artwork_bandit.errors import StoreUnavailable
from artwork_bandit.serving.ingest import Report
from artwork_bandit.serving.service import Answer, Rung, Service

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
CONTENT_TYPE = CONTENT_TYPE_LATEST
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
NATS = (0.01, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0)


class Metrics:
    """What one service counts."""

    def __init__(self, service: Service) -> None:
        self._registry = CollectorRegistry()
        self._state = _State(service)
        seconds = Histogram(
            "artwork_bandit_choice_seconds", "Time to answer a request for choices", ["rung"],
            buckets=SECONDS, registry=self._registry,
        )  # fmt: skip
        self._seconds = {rung: seconds.labels(rung.value) for rung in Rung}
        self._choices = Counter(
            "artwork_bandit_choices", "Titles answered", registry=self._registry
        )
        self._fallbacks = Counter(
            "artwork_bandit_fallbacks", "Titles answered without a draw", ["reason"],
            registry=self._registry,
        )  # fmt: skip
        self._entropy = Histogram(
            "artwork_bandit_pmf_entropy_nats", "Mean entropy of a request's pmfs", buckets=NATS,
            registry=self._registry,
        )  # fmt: skip
        self._refused = Counter(
            "artwork_bandit_refused", "Requests refused because too much waited",
            registry=self._registry,
        )  # fmt: skip
        events = Counter(
            "artwork_bandit_events", "Events sent", ["outcome"], registry=self._registry
        )
        self._events = {o: events.labels(o) for o in ("accepted", "duplicate", "rejected")}

    def answered(self, answer: Answer, seconds: float) -> None:
        """Count an answer."""
        self._seconds[answer.rung].observe(seconds)
        choices = answer.decisions.choices
        self._choices.inc(len(choices))
        if answer.entropy is not None:
            self._entropy.observe(answer.entropy)
        for choice in choices:
            if choice.fallback:
                self._fallbacks.labels(choice.reason).inc()

    def taken_in(self, report: Report, malformed: int) -> None:
        """Count a batch of events."""
        self._events["accepted"].inc(report.accepted)
        self._events["duplicate"].inc(report.duplicates)
        self._events["rejected"].inc(len(report.rejected) + malformed)

    def refused(self) -> None:
        self._refused.inc()

    def text(self) -> bytes:
        """Return the exposition format."""
        registry = self._registry
        if FOLDER in os.environ:
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        shown = generate_latest(registry)
        own = CollectorRegistry()
        own.register(self._state)
        return shown + generate_latest(own)


class _State(Collector):
    """What is asked at the scrape."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def collect(self) -> Iterable[Metric]:
        service = self._service
        yield GaugeMetricFamily(
            "artwork_bandit_database_up", "Whether the last write reached the database in time",
            value=float(service.journal.up),
        )  # fmt: skip
        try:
            depth = float(service.spool.depth())
        except StoreUnavailable:
            depth = float("nan")
        yield GaugeMetricFamily(
            "artwork_bandit_spool_entries", "Entries of this host that wait for the database",
            value=depth,
        )  # fmt: skip
        yield GaugeMetricFamily(
            "artwork_bandit_waiting_titles", "Titles that wait for their choice in this worker",
            value=float(service.waiting),
        )  # fmt: skip
        age = GaugeMetricFamily(
            "artwork_bandit_model_age_seconds", "Age of the model that serves", labels=["slot"]
        )
        broken = GaugeMetricFamily(
            "artwork_bandit_model_broken", "The live model cannot be served", labels=["slot"]
        )
        paused = GaugeMetricFamily(
            "artwork_bandit_paused", "Everybody gets the default (`pause`)", labels=["slot"]
        )
        now = dt.datetime.now(dt.UTC)
        for slot in service.state.current.catalogs:
            if (record := service.state.serving.get(slot)) is not None:
                age.add_metric([slot], (now - record.created_at).total_seconds())
            broken.add_metric([slot], float(slot in service.state.broken))
            paused.add_metric([slot], float(slot in service.state.current.paused))
        yield age
        yield broken
        yield paused
