"""The page that runs a network in a browser: ``forward`` writes the network's forward pass, ``assemble`` the page.

What is the same on every page lies in ``assets``: ``layers.js`` has a function for each kind of layer, ``digits.js``
does what ``portnn.datasets.prepare_digit`` does, ``pad.js`` is what one draws on, ``fields.js`` takes numbers.
"""
