"""Films as values: reading, pixel order, quality, intended use, the one preprocessing function, overlays."""
