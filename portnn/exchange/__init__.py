"""Networks for other programs: ``network.export(path)`` writes a page for a browser.

``export`` chooses by the path's ending, ``samples`` finds out what a network takes, ``page`` writes the page.
"""
