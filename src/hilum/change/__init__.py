"""Changing the model by a plan that was written before: evidence, gate, approvals, rollout, documents. No torch."""
