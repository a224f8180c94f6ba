"""Roundhouse: one OpenAI-compatible endpoint in front of many local inference engines."""

__version__ = "0.1.0"
