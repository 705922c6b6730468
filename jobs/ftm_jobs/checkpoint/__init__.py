"""A model in a folder: headers, index, configs, tensors, and the layout of files that are written."""
