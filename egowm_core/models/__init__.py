"""Backbone adapters: each turns one family of pretrained video models into a denoiser that follows actions."""
