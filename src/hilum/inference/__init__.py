"""From a film to an Assessment, by a bundle; no torch."""
