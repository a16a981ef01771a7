"""What runs a graph: the NumPy interpreter and XLA. Of ours, imports only `burnish.ir`, never a pass."""

assert __name__ == "burnish.backends"
