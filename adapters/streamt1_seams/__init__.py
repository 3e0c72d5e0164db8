"""The adapter author's toolkit: an interrupt seam, argument checks, and chunk-wise decoding with Wan's VAE."""
