"""Models, and how they are trained and asked for predictions."""
