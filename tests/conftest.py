"""Plugins of the whole suite."""

pytest_plugins = ["tests.support.lab"]
