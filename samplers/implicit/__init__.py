"""One-pass neural samplers: what they share."""
