"""What benchmarks compute and put in the place of a node, without an engine."""
