"""Figures, palette and the page template that every report shares."""
