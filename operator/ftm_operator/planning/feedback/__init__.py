"""Reads what engines say of their memory, and corrects the next plan by it. Pure."""
