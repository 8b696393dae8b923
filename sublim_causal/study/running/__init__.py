"""From a study to a complete run: the manifest, the missing blocks, the mirror, the looks."""
