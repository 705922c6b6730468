"""`ftm run`: the steps as subprocesses and an engine on localhost, without a cluster."""
