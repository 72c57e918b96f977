"""The last module that the server of `tests.entry_points` imports: what it holds by then is left alone by its forks."""

import gc

gc.collect()
gc.freeze()  # a fork's collector that looked through it would copy all of it, page by page
