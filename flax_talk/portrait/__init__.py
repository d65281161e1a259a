"""What makes a redrawn mouth part of its video (Song et al. 2020): one file for each step."""
