"""What measures the service from outside. Figures, never assertions."""
