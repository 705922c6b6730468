"""Models whose engines are held against what was verified, on a real node, by hand."""
