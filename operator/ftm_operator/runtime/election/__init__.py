"""Lets one operator at a time write in a scope: a namespace, or the whole cluster."""
