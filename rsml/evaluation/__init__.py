"""Metrics, intervals and tests, thresholds, tables: numpy only."""

from rsml.evaluation.bootstrap import (
    Interval,
    PairedTest,
    bootstrap_interval,
    bootstrap_intervals,
    format_interval,
    paired_test,
)
from rsml.evaluation.checks import EvaluationError
from rsml.evaluation.metrics import multilabel_metrics, singlelabel_metrics
from rsml.evaluation.proportions import proportions_metrics
from rsml.evaluation.report import (
    confusion_table,
    full_report,
    headline_table,
    per_label_table,
    summary,
    summary_intervals,
)
from rsml.evaluation.scalars import scalar_metrics
from rsml.evaluation.seeds import SeedsTest, paired_seeds_test
from rsml.evaluation.thresholds import tune_thresholds

__all__ = [
    "EvaluationError",
    "Interval",
    "PairedTest",
    "SeedsTest",
    "bootstrap_interval",
    "bootstrap_intervals",
    "confusion_table",
    "format_interval",
    "full_report",
    "headline_table",
    "multilabel_metrics",
    "paired_seeds_test",
    "paired_test",
    "per_label_table",
    "proportions_metrics",
    "scalar_metrics",
    "singlelabel_metrics",
    "summary",
    "summary_intervals",
    "tune_thresholds",
]
