"""Ways for images into the station."""
