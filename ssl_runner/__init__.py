"""A config-driven experiment runner for self-supervised learning."""

__version__ = "0.2.0"
