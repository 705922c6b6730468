"""Measurements beside other tools, on the machine at hand: what they print are figures, not verdicts."""
