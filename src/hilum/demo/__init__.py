"""The story from phantom films to a live service, as one command."""
