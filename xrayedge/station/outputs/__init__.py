"""Ways for results out of the station."""
