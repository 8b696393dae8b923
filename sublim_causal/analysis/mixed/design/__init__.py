"""Data in chunks, their cross-products, and the design of a model."""
