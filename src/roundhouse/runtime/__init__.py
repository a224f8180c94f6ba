"""Everything that waits: the supervisor that owns the state, and what reaches engines and devices for it."""
