"""Verbs composed from the rooms below: train, evaluate, package, pretrain."""
