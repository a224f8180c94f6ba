"""What is told about a running Roundhouse: live messages, metrics, log lines, history. Observers decide nothing."""
