"""The composition root: a configuration becomes objects, objects become a running program. The only place that picks."""
