"""What makes pure machines durable and prompt: shell, clock, waiters, the pump of effects, the reconcile loop."""
