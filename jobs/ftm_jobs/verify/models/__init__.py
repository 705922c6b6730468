"""The models of a verification, each run layer by layer or by llama.cpp."""
