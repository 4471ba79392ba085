"""Metrics, intervals, calibration and scorecards, on arrays only."""
