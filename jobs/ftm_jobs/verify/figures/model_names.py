"""Names the models of a verification, as verification.json and sentences do.

base          as it is stored
base+adapter  as it was trained: the reference for the merge
coarse        merged, with a bit less per changed weight than a merge keeps: the difference that rounding explains
merged        the merged artifact: the reference for the quantized model
plain         merged, plainly rounded as the quantized model is: the yardstick
quantized     the quantized artifact, dequantized or in its engine
rounded       what is to be served, computed as engines round: the yardstick for an engine
"""

BASE, ADAPTED, COARSE, MERGED, PLAIN, QUANTIZED = "base", "base+adapter", "coarse", "merged", "plain", "quantized"
ROUNDED = "rounded"
PAIRS = ((ADAPTED, BASE), (ADAPTED, COARSE), (ADAPTED, MERGED), (MERGED, PLAIN), (MERGED, QUANTIZED))
"""The reference and the other model of each comparison, in a report's order."""
