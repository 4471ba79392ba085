"""Weights by name or by file: what is known of them, how they are fetched, and how they are loaded strictly."""
