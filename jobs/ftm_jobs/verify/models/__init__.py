"""Runs the models of a verification, layer by layer or by llama.cpp."""
