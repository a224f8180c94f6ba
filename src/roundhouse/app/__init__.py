"""The composition root: a configuration becomes objects, and these a running program. The only place that picks."""
