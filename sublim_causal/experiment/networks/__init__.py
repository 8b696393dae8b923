"""Networks as functions of flat parameters, and where they start."""
