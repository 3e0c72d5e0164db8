"""What several reward packages share: finding weights, reading checkpoints, preparing frames, remembering features."""
