"""Everything of the operator that does I/O: the controller, kopf's handlers, the cluster and its caches."""
