"""The full training step, ours and the published one."""
