"""What is shown: pages, charts and grids."""
