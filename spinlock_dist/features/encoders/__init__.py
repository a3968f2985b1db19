"""Family encoders: from raw values of a family to feature columns."""
