"""Every store against real ones: the local disk, SeaweedFS, and a fake of the Hugging Face hub."""
