"""Bodies of requests: their fields, what is allowed in each, and how much structure they may have."""
