"""Merges from end to end against PEFT, on the disk and on a real S3 server, undisturbed and disturbed."""
