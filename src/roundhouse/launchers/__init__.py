"""Starting, finding and stopping engines; no launcher knows an engine."""
