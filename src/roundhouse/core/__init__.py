"""The pure core: what the box looks like (model), what may happen to an engine (lifecycle), who decides (planner)."""
