"""The bundle: one verified folder or zip that holds all that an answer needs; no torch."""
