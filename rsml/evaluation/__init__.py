"""Metrics, thresholds, tables and figures."""

from rsml.evaluation.bootstrap import (
    Interval,
    PairedTest,
    bootstrap_interval,
    bootstrap_intervals,
    format_interval,
    paired_test,
)
from rsml.evaluation.checks import EvaluationError
from rsml.evaluation.measure import HEADLINE, measure
from rsml.evaluation.metrics import multilabel_metrics, singlelabel_metrics
from rsml.evaluation.thresholds import tune_global_threshold, tune_thresholds

__all__ = [
    "HEADLINE",
    "EvaluationError",
    "Interval",
    "PairedTest",
    "bootstrap_interval",
    "bootstrap_intervals",
    "format_interval",
    "measure",
    "multilabel_metrics",
    "paired_test",
    "singlelabel_metrics",
    "tune_global_threshold",
    "tune_thresholds",
]
