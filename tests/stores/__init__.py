"""The Jobs against real stores: the local disk and SeaweedFS, and a fake of the Hugging Face hub."""
