"""Off-policy estimators: one a file, each with its source and where it is not valid."""

from artwork_bandit.estimators.clipped_ips import ClippedIPS
from artwork_bandit.estimators.dm import DM
from artwork_bandit.estimators.dr import DR
from artwork_bandit.estimators.dr_os import DROS
from artwork_bandit.estimators.ips import IPS
from artwork_bandit.estimators.rejection import Rejection
from artwork_bandit.estimators.sndr import SNDR
from artwork_bandit.estimators.snips import SNIPS
from artwork_bandit.estimators.sums import BucketSums, Estimate, Estimator, Rows, estimate
from artwork_bandit.estimators.switch_dr import SwitchDR

ESTIMATORS: tuple[Estimator, ...] = (
    IPS(), SNIPS(), ClippedIPS(), DM(), DR(), SNDR(), SwitchDR(), DROS(), Rejection()
)  # fmt: skip

__all__ = ["ESTIMATORS", "BucketSums", "Estimate", "Estimator", "Rows", "estimate"]
