"""Says what the files beside a model's weights are for: which of them a merge takes, and from whom."""
