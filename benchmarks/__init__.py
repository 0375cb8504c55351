"""What the host costs, against the same work without it: `python -m benchmarks`."""
