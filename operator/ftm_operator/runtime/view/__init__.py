"""Keeps what the API server tells, and reads it in full now and then."""
