"""What is asked of a log, and what must be known of all of it before its rows are judged."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from artwork_bandit.domain import CLUSTERS, Ints, ReplayBlock
from artwork_bandit.evaluation.distinct import Hashes, hashed
from artwork_bandit.evaluation.evidence import Method
from artwork_bandit.evaluation.outcome_model import OutcomeModel, Past
from artwork_bandit.evaluation.results import LOGGING
from artwork_bandit.evaluation.span import Span
from artwork_bandit.evaluation.targets import Target
from artwork_bandit.policies.block import Detail, Lookup
from artwork_bandit.policies.segments import Communities, Segments, largest

Cluster = Literal["member_id", "title_id", "decision_id"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Which targets to judge, and how."""

    targets: tuple[Target, ...]
    lookup: Lookup
    against: str = LOGGING
    method: Method = field(default_factory=Method)
    cluster: Cluster = "member_id"
    """Which rows are not independent."""
    by: str | None = None
    """What segments to judge as well; see `policies.segments`."""
    communities: Communities | None = None
    """What names the communities, if those are asked for."""

    def __post_init__(self) -> None:
        if self.by is not None:
            Segments(
                self.by, None, self.communities
            )  # an unknown field is told before anything is read

    def target(self, name: str) -> Target:
        return next(t for t in self.targets if t.name == name)

    def detail(self, least: Detail) -> Detail:
        """Return how much of each row a pass over the log needs, if it is `least` where nobody
        asks for segments."""
        if self.by is not None:
            return "all"
        judging = least != "plain"
        return "all" if judging and any(t.contextual for t in self.targets) else least

    def clusters_of(self, block: ReplayBlock, members: Hashes) -> Ints:
        """Return each row's cluster; `members` are the rows' hashed members."""
        match self.cluster:
            case "member_id":
                found = members
            case "decision_id":
                found = hashed(block.decision_ids)
            case "title_id":
                titles = np.array([s.title_id for s in block.action_sets], object)
                found = hashed(titles)[block.set_of_row]
        clusters: Ints = (found % np.uint64(CLUSTERS)).astype(np.int64)
        return clusters


class Survey:
    """What one pass over the log learns for the next; merges with `+=`."""

    def __init__(self, question: Question, span: Span) -> None:
        by, named = question.by, question.communities
        self._segments = None if by is None else Segments(by, None, named)
        self._span = span
        self._past = Past()
        self._names: Counter[str] = Counter()

    def add(self, block: ReplayBlock) -> None:
        sure = block.certain
        if sure.all():
            return
        if sure.any():
            block = block.take(~sure)
        if block.q_hat is None:
            self._past.add(block, self._span, hashed(block.member_ids))
        if self._segments is not None:
            self._names.update(self._segments.of(block))

    def __iadd__(self, other: Survey) -> Survey:
        self._past += other._past
        self._names.update(other._names)
        return self

    def segments(self, question: Question) -> Segments | None:
        """Return what names the segments to tell apart."""
        if question.by is None:
            return None
        return Segments(question.by, largest(self._names), question.communities)

    def outcome_model(self, question: Question) -> OutcomeModel:
        return OutcomeModel(self._past, self._span, question.method.bounds[0])
