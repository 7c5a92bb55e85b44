"""Metrics, thresholds, tables and figures."""
