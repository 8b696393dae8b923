"""Tables with a known truth, and how the estimators do on them."""
