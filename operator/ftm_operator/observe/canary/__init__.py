"""The figures by which a new version is held against the old one while both answer requests."""
