"""What a process needs before it can do anything: settings, logs, metrics, health, batching."""
