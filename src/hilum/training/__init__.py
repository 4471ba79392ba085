"""The one training loop and all that it is given: batches, augmentation, stages, losses, prefix cache."""
