"""The zoo, heads, weights, the one-pass answer and its export."""
