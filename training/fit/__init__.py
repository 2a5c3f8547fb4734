"""Fitting the autoencoder and the denoiser: what a step is shown, what it does, and what surrounds it."""
