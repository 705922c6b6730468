"""Servers that tests talk to: a real S3 server, a fake of the Hugging Face hub, and a proxy that breaks connections."""
