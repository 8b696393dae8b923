"""Tables with a known truth, and what the estimators make of them."""
