"""Pictures: functions of aggregated numbers that return a matplotlib figure."""
