"""Manifests, splits, duplicates, and the sets made by procedure; arrays only."""
