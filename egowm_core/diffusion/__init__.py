"""Diffusion in sigma space: preconditioning, noise levels, samplers, losses. Knows no backbone."""
