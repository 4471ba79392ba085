"""Watching the model in service: drift without labels, performance with them, alarms within a budget. No torch."""
