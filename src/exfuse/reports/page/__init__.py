"""A study as one HTML file: tables, charts and a browser of predictions, without an account and without a network."""
