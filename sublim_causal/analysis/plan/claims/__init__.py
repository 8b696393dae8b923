"""Claims: rules on limits of estimates, declared with the plan, and the verdicts by them."""
